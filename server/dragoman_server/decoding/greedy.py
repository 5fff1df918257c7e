"""Greedy decoding without filters: the best candidate of each step. Most requests are this, so it has its own way."""

from __future__ import annotations

import math

from dragoman_server.decoding.hypothesis import FinishReason, Hypothesis, NonFiniteScoreError


def advance(
    hypothesis: Hypothesis, token_id: int, log_prob: float, *, eos: int, max_length: int
) -> FinishReason | None:
    """Append the best candidate of one step; returns why decoding ended, or None.

    A NaN or infinite logit makes the log-softmax of its whole row NaN, so the best score shows it.
    Raises ``NonFiniteScoreError`` and leaves the hypothesis as it was.
    """
    if not math.isfinite(log_prob):
        raise NonFiniteScoreError(f"score = {log_prob} at step {len(hypothesis.token_ids) + 1}")
    hypothesis.log_probs.append(log_prob)
    if token_id == eos:
        return FinishReason.STOP
    hypothesis.token_ids.append(token_id)
    hypothesis.last = token_id
    return FinishReason.LENGTH if len(hypothesis.token_ids) >= max_length else None
