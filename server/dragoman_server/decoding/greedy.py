"""Greedy decoding without filters: the best candidate of each step. Most requests are this, so it has its own way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from dragoman_server.decoding.hypothesis import FinishReason, Hypothesis, NonFiniteScoreError


def advance(
    hypotheses: Iterable[Hypothesis], ids: Sequence[int], log_probs: Sequence[float], eos: int
) -> list[tuple[int, FinishReason | NonFiniteScoreError]]:
    """Append the best candidate of its row, ``ids[row]``, to each hypothesis; returns which have ended, and why.

    A NaN or infinite logit makes the log-softmax of its whole row NaN, so the best score shows it; such a hypothesis
    stays as it was. One loop without a call in it: this runs for every row at every step.
    """
    ended: list[tuple[int, FinishReason | NonFiniteScoreError]] = []
    suspicious = not isfinite(sum(log_probs))
    for index, hypothesis in enumerate(hypotheses):
        row = hypothesis.row
        log_prob = log_probs[row]
        token_ids = hypothesis.token_ids
        if suspicious and not isfinite(log_prob):
            ended.append((index, NonFiniteScoreError(f"score = {log_prob} at step {len(token_ids) + 1}")))
            continue
        hypothesis.log_probs.append(log_prob)
        token_id = ids[row]
        if token_id == eos:
            ended.append((index, FinishReason.STOP))
            continue
        token_ids.append(token_id)
        hypothesis.last = token_id
        if len(token_ids) >= hypothesis.max_length:
            ended.append((index, FinishReason.LENGTH))
    return ended
