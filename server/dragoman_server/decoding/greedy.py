"""Greedy decoding: the best candidate of each step."""

from __future__ import annotations

import math

from dragoman_server.request import FinishReason, Request


class NonFiniteScoreError(ArithmeticError):
    """The graph gave NaN or an infinity as a row's best score."""


def advance(request: Request, token_id: int, log_prob: float, eos: int) -> FinishReason | None:
    """Append the best candidate of one step; returns why decoding ended, or None.

    A NaN or infinite logit makes the log-softmax of its whole row NaN, so the best score shows it.
    Raises ``NonFiniteScoreError`` and leaves the request as it was.
    """
    if not math.isfinite(log_prob):
        raise NonFiniteScoreError(f"score = {log_prob} at step {len(request.token_ids) + 1}")
    request.log_probs.append(log_prob)
    if token_id == eos:
        return FinishReason.STOP
    request.token_ids.append(token_id)
    return FinishReason.LENGTH if len(request.token_ids) >= request.max_length else None
