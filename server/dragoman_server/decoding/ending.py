"""Makes a row and its last token the answer that they are, and tells whether a text has come to a stop sequence."""

from __future__ import annotations

from typing import NamedTuple

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.ranking import coverage, keep_best
from dragoman_server.decoding.table import HypothesisTable, Past, Task


class Ending(NamedTuple):
    """A hypothesis of a beam that ends."""

    row: int
    token_id: int
    log_prob: float
    score: float
    """The sum of its log-probabilities, with that of the token."""
    past: Past
    """What came before the token."""


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


def answer(
    table: HypothesisTable,
    rows: list[int],
    pasts: list[tuple[list[int], list[float]]],
    token_ids: list[int],
    log_probs: list[float],
    *,
    eos: int,
) -> dict[Task, Exception]:
    """The hypothesis in each of these rows ends with its token, in this order: its owner has an answer more.

    ``pasts`` is what came before, as ``table.pasts`` gives it; it becomes a part of the answers. Returns the owners of
    whose hypotheses no answer can be made.
    """
    failed: dict[Task, Exception] = {}
    for row, past, token_id, log_prob in zip(rows, pasts, token_ids, log_probs, strict=True):
        task: Task = table.owners[row]
        try:
            task.answers.append(answered(table, row, past, token_id, log_prob, eos=eos))
        except Exception as error:  # the text's decoder is not ours, and none of it concerns other tasks
            failed[task] = error
    return failed


def answer_if_wanted(table: HypothesisTable, task: Task, ending: Ending, *, eos: int) -> None:
    """A hypothesis of the task's beam becomes an answer, if it may be wanted; raises what the text's decoder raises.

    Of a task as many answers are kept as are wanted, the best: most that end are never made one.
    """
    row, token_id, log_prob, score, past = ending
    if not _may_be_wanted(task, len(past[0]) + 1, score):
        return
    found = answered(table, row, past, token_id, log_prob, eos=eos, score=score)
    keep_best(task.answers, found, task.options.num_hypotheses)


def _may_be_wanted(task: Task, length: int, score: float) -> bool:
    """Whether a hypothesis that ends now is among the best of its task so far."""
    options, answers = task.options, task.answers
    if len(answers) < options.num_hypotheses or options.coverage_penalty:
        return True
    rank = options.length_penalty.rank(score, length)
    return any(rank > answer.rank_score for answer in answers)


def stopped(table: HypothesisTable, row: int, token_id: int) -> bool:
    """Whether the token completes one of the stop sequences of the row's owner."""
    task: Task = table.owners[row]
    stop = task.options.stop
    return stop is not None and stop.cut([*table.token_ids(row), token_id]) is not None
