import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.ranking import LengthPenalty, coverage, keep_best, n_best


def test_plain_normalisation_divides_by_a_power_of_the_length() -> None:
    assert LengthPenalty(1.0).rank(-6.0, 4) == -1.5
    assert LengthPenalty(0.5).rank(-6.0, 4) == -3.0
    assert LengthPenalty(0.0).rank(-6.0, 4) == -6.0


def test_coverage_takes_off_for_what_had_less_than_its_share() -> None:
    # cp = sum of ln(min(attention in all, 1)): ln 0.5 + ln 1 + ln 0.25
    assert coverage(np.array([0.5, 1.75, 0.25], np.float32)) == pytest.approx(-math.log(8))
    assert coverage(np.array([1, 2], np.float32)) == 0
    assert -100 < coverage(np.array([1, 0], np.float32)) < -80  # not infinite: rank scores stay comparable


def test_wu_et_al_equation_14() -> None:
    # lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha
    assert LengthPenalty(1.0, wu=True).rank(-6.0, 1) == -6.0
    assert LengthPenalty(0.6, wu=True).rank(-6.0, 10) == pytest.approx(-6.0 / (15**0.6 / 6**0.6))


@given(st.floats(-100, 0), st.floats(0, 5), st.booleans(), st.integers(1, 200), st.integers(0, 200))
def test_the_longest_bounds_what_a_hypothesis_can_still_reach(
    score: float, exponent: float, wu: bool, length: int, more: int
) -> None:
    penalty = LengthPenalty(exponent, wu)
    assert penalty.rank(score, length) <= penalty.rank(score, length + more) <= 0


@given(st.lists(st.sampled_from([-3.0, -2.0, -1.0, -math.inf]), min_size=1, max_size=8), st.integers(1, 9))
def test_the_best_come_first_and_of_equals_the_one_that_ended_first(ranks: list[float], count: int) -> None:
    answers = [Answer([number], [rank], FinishReason.STOP, rank) for number, rank in enumerate(ranks)]
    expected = sorted(range(len(ranks)), key=lambda i: (-ranks[i], i))[:count]
    assert [answer.token_ids[0] for answer in n_best(answers, count)] == expected
    kept: list[Answer] = []
    for answer in answers:
        keep_best(kept, answer, count)
    assert [answer.token_ids[0] for answer in kept] == sorted(expected)
    assert n_best(kept, count) == n_best(answers, count)
