import math

import pytest

from dragoman_server.decoding.greedy import advance
from dragoman_server.decoding.hypothesis import FinishReason, Hypothesis, NonFiniteScoreError

BOS, EOS = 2, 3


def feed(hypothesis: Hypothesis, token_id: int, log_prob: float, max_length: int = 3) -> FinishReason | None:
    return advance(hypothesis, token_id, log_prob, eos=EOS, max_length=max_length)


def test_end_of_sentence_stops_and_is_scored_but_not_kept() -> None:
    h = Hypothesis(0, BOS)
    assert feed(h, 8, -0.5) is None
    assert h.last == 8
    assert feed(h, EOS, -0.25) is FinishReason.STOP
    assert (h.token_ids, h.log_probs) == ([8], [-0.5, -0.25])


def test_max_length_counts_end_of_sentence() -> None:
    h = Hypothesis(0, BOS)
    assert feed(h, 8, -0.5, max_length=2) is None
    assert feed(h, 9, -0.5, max_length=2) is FinishReason.LENGTH
    assert (h.token_ids, h.log_probs) == ([8, 9], [-0.5, -0.5])
    assert feed(Hypothesis(0, BOS), EOS, -0.5, max_length=1) is FinishReason.STOP


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_changes_nothing(score: float) -> None:
    h = Hypothesis(0, BOS)
    with pytest.raises(NonFiniteScoreError, match="at step 1"):
        feed(h, 8, score)
    assert (h.token_ids, h.log_probs, h.last) == ([], [], BOS)
