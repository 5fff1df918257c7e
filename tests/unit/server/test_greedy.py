import math

import pytest

from dragoman_server.decoding.greedy import advance
from dragoman_server.decoding.hypothesis import FinishReason, Hypothesis, NonFiniteScoreError

BOS, EOS = 2, 3


def feed(hypothesis: Hypothesis, token_id: int, log_prob: float) -> FinishReason | NonFiniteScoreError | None:
    ended = advance([hypothesis], [token_id], [log_prob], EOS)
    return ended[0][1] if ended else None


def test_end_of_sentence_stops_and_is_scored_but_not_kept() -> None:
    h = Hypothesis(0, BOS, max_length=3)
    assert feed(h, 8, -0.5) is None
    assert h.last == 8
    assert feed(h, EOS, -0.25) is FinishReason.STOP
    assert (h.token_ids, h.log_probs) == ([8], [-0.5, -0.25])


def test_max_length_counts_end_of_sentence() -> None:
    h = Hypothesis(0, BOS, max_length=2)
    assert feed(h, 8, -0.5) is None
    assert feed(h, 9, -0.5) is FinishReason.LENGTH
    assert (h.token_ids, h.log_probs) == ([8, 9], [-0.5, -0.5])
    assert feed(Hypothesis(0, BOS, max_length=1), EOS, -0.5) is FinishReason.STOP


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_changes_nothing(score: float) -> None:
    h = Hypothesis(0, BOS, max_length=3)
    fault = feed(h, 8, score)
    assert isinstance(fault, NonFiniteScoreError)
    assert "at step 1" in str(fault)
    assert (h.token_ids, h.log_probs, h.last) == ([], [], BOS)


def test_each_hypothesis_reads_its_own_row() -> None:
    hypotheses = [Hypothesis(row, BOS, max_length=2) for row in (2, 0, 1)]
    assert advance(hypotheses, [7, EOS, 9], [-1.0, -2.0, -3.0], EOS) == [(2, FinishReason.STOP)]
    assert [(h.token_ids, h.log_probs) for h in hypotheses] == [([9], [-3.0]), ([7], [-1.0]), ([], [-2.0])]
    assert [index for index, _ in advance(hypotheses[:2], [7, EOS, 9], [-1.0, -2.0, math.nan], EOS)] == [0, 1]
