"""Accuracy, macro F1 and out-of-scope figures against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_model.classification_metrics import (
    OUT_OF_SCOPE,
    accuracy,
    choose_threshold,
    macro_f1,
    multi_label_f1,
    scope_scores,
)

WANTED = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 2])


def test_accuracy_and_macro_f1() -> None:
    assert accuracy(PREDICTED, WANTED) == pytest.approx(4 / 6)
    # Class 0: TP 2, FP 1, FN 1: 4/6. Class 1: TP 1, FP 1, FN 1: 2/4. Class 2: 1. Class 3 never comes.
    assert macro_f1(PREDICTED, WANTED, 4) == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)
    with pytest.raises(ValueError, match="nothing"):
        accuracy(WANTED[:0], WANTED[:0])


def test_macro_f1_of_several_labels() -> None:
    wanted = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    predicted = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    # Label 0: TP 1, FN 1: 2/3. Label 1: TP 1, FP 1: 2/3. Label 2 never comes.
    assert multi_label_f1(predicted, wanted) == pytest.approx(2 / 3)


def test_scope_scores_count_a_refused_text_as_wrong() -> None:
    wanted = np.array([0, 1, 1, OUT_OF_SCOPE, OUT_OF_SCOPE])
    predicted = np.array([0, 1, 0, 1, 0])
    probability = np.array([0.9, 0.4, 0.8, 0.3, 0.7])
    scores = scope_scores(probability, predicted, wanted, 0.5)
    assert scores.in_scope_accuracy == pytest.approx(1 / 3)
    assert scores.recall == pytest.approx(1 / 2)
    assert scores.precision == pytest.approx(1 / 2)
    assert scope_scores(probability, predicted, wanted, 0.0).precision == 1.0
    with pytest.raises(ValueError, match="out of scope"):
        scope_scores(probability[:3], predicted[:3], wanted[:3], 0.5)


def test_the_threshold_is_the_highest_that_costs_no_more_than_it_may() -> None:
    wanted = np.array([0, 1, 0, 1, OUT_OF_SCOPE])
    predicted = np.array([0, 1, 0, 0, 1])
    probability = np.array([0.9, 0.605, 0.3, 0.2, 0.5])
    # The fourth is wrong anyway. Above 0.3 the third is refused: a quarter; above 0.605 the second too: a half.
    assert choose_threshold(probability, predicted, wanted, cost=0.0) == 0.3
    assert choose_threshold(probability, predicted, wanted, cost=0.24) == 0.3
    assert choose_threshold(probability, predicted, wanted, cost=0.25) == 0.6
    assert choose_threshold(probability, predicted, wanted, cost=1.0) == 1.0


@given(
    st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2), st.floats(0, 1)), min_size=2, max_size=20).filter(
        lambda rows: {row[0] == -1 for row in rows} == {True, False}
    ),
    st.floats(0.0, 0.5),
)
def test_no_threshold_of_that_cost_finds_more(rows: list[tuple[int, int, float]], cost: float) -> None:
    wanted, predicted, probability = (np.array(column) for column in zip(*rows, strict=True))
    plain = scope_scores(probability, predicted, wanted, 0.0).in_scope_accuracy
    threshold = choose_threshold(probability, predicted, wanted, cost=cost)
    chosen = scope_scores(probability, predicted, wanted, threshold)
    assert chosen.in_scope_accuracy >= plain - cost - 1e-6
    for candidate in np.arange(101) / 100:
        other = scope_scores(probability, predicted, wanted, float(candidate))
        assert other.recall <= chosen.recall or other.in_scope_accuracy < plain - cost
