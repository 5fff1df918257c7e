"""Every filter against a naive restatement of its rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.filters import completing, penalise, repeating, restrict
from dragoman_server.decoding.hypothesis import Hypothesis, NonFiniteScoreError
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.scores import LogitScores, StepScores, TopScores, best, log_softmax
from dragoman_server.runtime import StepOutput

VOCABULARY, EOS = 7, 3
tokens = st.integers(0, VOCABULARY - 1)
histories = st.lists(tokens, max_size=12)
logit_rows = st.lists(st.floats(-20, 20, width=32), min_size=VOCABULARY, max_size=VOCABULARY)


def options(**given: Any) -> DecodingOptions:
    return DecodingOptions(max_length=100, **given)


@given(logit_rows, histories, st.floats(0.1, 10), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties(
    logits: list[float], history: list[int], repetition: float, presence: float, frequency: float
) -> None:
    expected = []
    for token, logit in enumerate(logits):
        value = logit
        if token in history:
            value = value / repetition if value > 0 else value * repetition
            value -= presence + frequency * history.count(token)
        expected.append(value)
    row = np.array(logits)
    penalise(
        row,
        history,
        options(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency),
    )
    np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-12)


@given(histories, st.integers(1, 5))
def test_no_ngram_comes_twice(history: list[int], size: int) -> None:
    ngrams = {tuple(history[i : i + size]) for i in range(len(history) - size + 1)}
    expected = {t for t in range(VOCABULARY) if tuple([*history, t][-size:]) in ngrams and len(history) + 1 >= size}
    assert set(repeating(history, size)) == expected


@given(histories, st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=4))
def test_banned_sequences(history: list[int], sequences: list[list[int]]) -> None:
    expected = {t for t in range(VOCABULARY) for s in sequences if [*history, t][-len(s) :] == s}
    assert set(completing(history, sequences)) == expected


@given(
    scores=logit_rows,
    history=histories,
    allowed=st.none() | st.lists(tokens, min_size=1, unique=True),
    banned=st.lists(st.lists(tokens, min_size=1, max_size=2), max_size=8),
    ngram=st.integers(0, 3),
    min_length=st.integers(0, 12),
)
def test_restrictions_together(
    *,
    scores: list[float],
    history: list[int],
    allowed: list[int] | None,
    banned: list[list[int]],
    ngram: int,
    min_length: int,
) -> None:
    def may_come(token: int) -> bool:
        grown = [*history, token]
        if token == EOS and len(history) < min_length:
            return False
        if allowed is not None and token not in allowed and token != EOS:
            return False
        if any(grown[-len(sequence) :] == sequence for sequence in banned):
            return False
        earlier = [tuple(history[i : i + ngram]) for i in range(len(history) - ngram + 1)]
        return not (ngram and len(grown) >= ngram and tuple(grown[-ngram:]) in earlier)

    expected = [score if may_come(token) else -math.inf for token, score in enumerate(scores)]
    if max(expected) == -math.inf:
        expected[EOS] = scores[EOS]  # something has to come
    row = np.array(scores)
    restrict(
        row,
        history,
        options(
            allowed=None if allowed is None else tuple(allowed),
            banned=tuple(map(tuple, banned)),
            no_repeat_ngram_size=ngram,
            min_length=min_length,
        ),
        EOS,
    )
    assert row.tolist() == expected


@given(st.lists(st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 1.0]), min_size=1, max_size=12), st.integers(1, 14))
def test_the_best_come_first_and_of_equals_the_lower_id(values: list[float], count: int) -> None:
    expected = sorted((i for i, v in enumerate(values) if v > -math.inf), key=lambda i: (-values[i], i))[:count]
    assert best(np.array(values), count).tolist() == expected


def test_log_softmax_is_of_each_row_for_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 1000)).astype(np.float32) * 20
    expected = [[x - math.log(sum(math.exp(y) for y in row)) for x in row] for row in logits.astype(float).tolist()]
    np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-5)
    for row in range(5):
        np.testing.assert_array_equal(log_softmax(logits[row : row + 1])[0], log_softmax(logits)[row])


def output(logits: list[list[float]]) -> StepScores:
    array = np.array(logits, np.float32)
    log_probs = log_softmax(array)
    ids = np.argsort(-log_probs, axis=1, kind="stable")
    return StepScores(StepOutput(np.take_along_axis(log_probs, ids, axis=1), ids, array))


def test_restrictions_leave_the_models_probabilities_alone_and_penalties_do_not() -> None:
    live = [Hypothesis(0, 1, 9, token_ids=[5])]
    logits = [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    plain = log_softmax(np.array(logits))[0]
    banned = LogitScores(live, output(logits), options(banned=((6,),)), EOS)
    assert banned.best(0, 2)[0] == [5, 4]
    assert banned.best(0, 2)[1] == pytest.approx([plain[5], plain[4]], abs=1e-6)
    assert banned.of(0, 6) == pytest.approx(plain[6], abs=1e-6)
    penalised = LogitScores(live, output(logits), options(presence_penalty=2.0), EOS)
    changed = log_softmax(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 3.0, 6.0]]))[0]
    assert penalised.best(0, 3)[0] == [6, 4, 3]
    assert penalised.best(0, 3)[1] == pytest.approx([changed[6], changed[4], changed[3]], abs=1e-6)


def test_both_sources_of_scores_agree() -> None:
    random = np.random.default_rng(1)
    live, step = [Hypothesis(row, 1, 9) for row in (2, 0)], output(random.normal(size=(3, VOCABULARY)).tolist())
    top, full = TopScores(live, step, 4), LogitScores(live, step, options(), EOS)
    for index in range(2):
        assert top.best(index, 4)[0] == full.best(index, 4)[0]
        assert top.best(index, 4)[1] == pytest.approx(full.best(index, 4)[1])


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_scores_that_are_no_numbers(fault: float) -> None:
    live, logits = [Hypothesis(0, 1, 9)], np.array([[0.0, fault, 1.0]], np.float32)
    broken = StepScores(StepOutput(np.full((1, 2), np.nan, np.float32), np.zeros((1, 2), np.int64), logits))
    for read in (lambda: TopScores(live, broken, 2), lambda: LogitScores(live, broken, options(), 2)):
        with pytest.raises(NonFiniteScoreError, match="at step 1"):
            read()
