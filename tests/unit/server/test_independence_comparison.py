"""What the proof of independence counts as a difference, in answers and in what is told before they are there."""

from __future__ import annotations

import numpy as np
import pytest

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.independence.comparison import Comparison
from dragoman_server.independence.watching import Watch
from dragoman_server.request import Completion, Progress, Receipt


def answer(ids: list[int], log_probs: list[float], reason: FinishReason = FinishReason.STOP) -> Answer:
    return Answer(ids, log_probs, reason, sum(log_probs))


def compared(alone: list[Answer], other: list[Answer]) -> Comparison:
    comparison = Comparison()
    comparison.add(5, alone, other)
    return comparison


def test_what_counts_as_a_difference() -> None:
    one = answer([4, 5], [-0.5, -0.25, -0.125])
    same = compared([one, one], [one, one._replace()])
    assert (same.tokens, same.scores, same.different_tokens, same.different_scores) == (4, 8, 0, 0)
    assert same.holds("int8")

    other = compared([one], [answer([4, 6], [-0.5, -0.25, -0.125])])
    assert (other.different_tokens, other.ties, other.parted) == (1, 1, [5])
    assert not other.holds("fp32")  # a tie is told, and is a difference all the same
    assert compared([one], [answer([4, 6], [-0.5, -1.0, -0.125])]).ties == 0

    assert compared([one], [answer([4], [-0.5, -0.25])]).different_tokens == 1
    assert compared([one], [answer([4, 5], [-0.5, -0.25], FinishReason.LENGTH)]).different_tokens == 1
    assert compared([one], [one, one]).different_tokens == 1

    scored = compared([one], [one._replace(rank_score=one.rank_score + 0.5)])
    assert (scored.different_tokens, scored.different_scores, scored.largest_difference) == (0, 1, 0.5)
    assert not scored.holds("fp32")
    assert not compared([one], [one._replace(rank_score=float("nan"))]).holds("fp32")


def test_attention_and_texts_count_where_tokens_are_the_same() -> None:
    weights = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    one = answer([4], [-0.5, -0.25])._replace(attention=weights)
    same = compared([one], [one._replace(attention=weights.copy())])
    assert (same.weights, same.different_weights, same.holds("int8")) == (4, 0, True)

    near = compared([one], [one._replace(attention=np.nextafter(weights, np.float32(1)))])
    assert (near.weights, near.different_weights, near.different_scores) == (4, 4, 0)
    assert (near.holds("int8"), near.holds("fp32")) == (False, True)

    for other in (None, weights[:, :1], weights + np.float32(2e-4), weights * np.float32("nan")):
        found = compared([one], [one._replace(attention=other)])
        assert (found.different_weights, found.holds("fp32")) == (4, False)
    assert not compared([one._replace(attention=None)], [one]).holds("fp32")

    assert compared([one._replace(text="a")], [one._replace(text="b")]).different_tokens == 1


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([], None),
        ([[]], True),
        ([[4], [4, 5], [4, 5]], True),
        ([[4, 5, 6]], True),
        ([[4, 5], [4]], False),
        ([[4, 6], [4, 5]], False),
        ([[4], [4, 6]], False),
        ([[4, 5, 6, 7]], False),
    ],
)
def test_progress_that_is_taken_back_is_found(told: list[list[int]], kept: bool | None) -> None:
    watch = Watch()
    for final_ids in told:
        watch(Progress(final_ids, [9]))
    completion = Completion([answer([4, 5, 6], [-1.0]), answer([4, 6], [-2.0])], Receipt(0, 0, 3, 1, 0))
    assert watch.kept(completion) is kept
    comparison = Comparison()
    comparison.add_progress(watch.kept(completion))
    assert (comparison.watched, comparison.holds("fp32")) == (bool(told), kept is not False)
