"""Makes a row and its last token the answer that they are, and tells whether a text has come to a stop sequence."""

from __future__ import annotations

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.ranking import coverage
from dragoman_server.decoding.table import HypothesisTable, Past, Task


def answered(
    table: HypothesisTable,
    row: int,
    past: Past,
    token_id: int,
    log_prob: float,
    *,
    eos: int,
    score: float | None = None,
) -> Answer:
    """The answer that the row's hypothesis with this token more is; the row stays as it is.

    ``past`` is what came so far in the row, as ``table.pasts`` gives it; it becomes a part of the answer. ``score`` is
    the sum of all its log-probabilities, where it is known.
    """
    task: Task = table.owners[row]
    options = task.options
    token_ids, log_probs = past
    log_probs.append(log_prob)
    reason, text = FinishReason.STOP, None
    if token_id != eos:
        token_ids.append(token_id)
        reason = FinishReason.LENGTH
        if options.stop and (text := options.stop.cut(token_ids)) is not None:
            reason = FinishReason.STOP_SEQUENCE
    rank = options.length_penalty.rank(sum(log_probs) if score is None else score, len(log_probs))
    if options.coverage_penalty:
        assert table.covered is not None
        rank += options.coverage_penalty * coverage(table.covered[row, : len(task.source_ids)])
    attention = table.attention(row) if options.with_attention else None
    return Answer(token_ids, log_probs, reason, rank, text, attention)


def stopped(table: HypothesisTable, row: int, token_id: int) -> bool:
    """Whether the token completes one of the stop sequences of the row's owner."""
    task: Task = table.owners[row]
    stop = task.options.stop
    return stop is not None and stop.cut([*table.token_ids(row), token_id]) is not None
