"""What may be told of a request while it runs: ids that will not be taken back, and those that may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.table import HypothesisTable, Task


@dataclass(frozen=True)
class Progress:
    """What a running request has decoded so far."""

    final_ids: Sequence[int]
    """Target ids that every live hypothesis, and every ended one that may still be the answer, begins with."""
    provisional_ids: Sequence[int]
    """What the best hypothesis adds to them; may be taken back."""


def progress_of(table: HypothesisTable, task: Task, rows: Sequence[int]) -> Progress:
    """Of a task whose live hypotheses are in these rows.

    Of its ended hypotheses only the one that ranks best so far may still be the answer; and whatever comes begins with
    one of the live ones. So the ids that all of these share stay, and what they share later begins with them.
    """
    options = task.options
    known = [table.token_ids(row) for row in rows]
    if len(known) == 1 and not task.answers:
        return _told(options, known[0], known[0])
    ranks = [
        options.length_penalty.rank(sum(table.scores(row)), len(ids)) for row, ids in zip(rows, known, strict=True)
    ]
    if task.answers:
        (best,) = n_best(task.answers, 1)
        known.append(best.token_ids)
        ranks.append(best.rank_score)
    return _told(options, _common(known), known[max(range(len(ranks)), key=ranks.__getitem__)])


def _told(options: DecodingOptions, final: list[int], likeliest: list[int]) -> Progress:
    if options.stop:
        final = final[: options.stop.settled(final)]
    return Progress(final, likeliest[len(final) :])


def _common(sequences: Sequence[list[int]]) -> list[int]:
    """The longest prefix of all."""
    least, greatest = min(sequences), max(sequences)
    for at, (one, other) in enumerate(zip(least, greatest, strict=False)):
        if one != other:
            return least[:at]
    return least
