import math

import pytest

from dragoman_server.decoding.greedy import NonFiniteScoreError, advance
from dragoman_server.request import FinishReason, Request

EOS = 3


def request(max_length: int = 3) -> Request:
    return Request([4, 9, EOS], max_length, lambda outcome: None)


def test_end_of_sentence_stops_and_is_scored_but_not_kept() -> None:
    r = request()
    assert advance(r, 8, -0.5, EOS) is None
    assert advance(r, EOS, -0.25, EOS) is FinishReason.STOP
    assert (r.token_ids, r.log_probs) == ([8], [-0.5, -0.25])


def test_max_length_counts_end_of_sentence() -> None:
    r = request(max_length=2)
    assert advance(r, 8, -0.5, EOS) is None
    assert advance(r, 9, -0.5, EOS) is FinishReason.LENGTH
    assert (r.token_ids, r.log_probs) == ([8, 9], [-0.5, -0.5])
    r = request(max_length=1)
    assert advance(r, EOS, -0.5, EOS) is FinishReason.STOP


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_changes_nothing(score: float) -> None:
    r = request()
    with pytest.raises(NonFiniteScoreError, match="at step 1"):
        advance(r, 8, score, EOS)
    assert (r.token_ids, r.log_probs) == ([], [])
