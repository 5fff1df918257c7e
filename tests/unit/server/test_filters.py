"""Every filter against a naive restatement of its rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.candidates import Candidates, likeliest_of, log_sums
from dragoman_server.decoding.filters import completing, penalise, repeating, restrict
from dragoman_server.decoding.hypothesis import NonFiniteScoreError
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.table import ALWAYS, HypothesisTable
from dragoman_server.request import Request
from dragoman_server.runtime import StepOutput

VOCABULARY, EOS = 7, 3
tokens = st.integers(0, VOCABULARY - 1)
histories = st.lists(tokens, max_size=12)
logit_rows = st.lists(st.floats(-20, 20, width=32), min_size=VOCABULARY, max_size=VOCABULARY)


def options(**given: Any) -> DecodingOptions:
    return DecodingOptions(max_length=100, **given)


def padded(rows: list[list[int]], longest: int = 12) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Histories as the table keeps them: what stands behind their ends is left over from others."""
    history = np.random.default_rng(0).integers(0, VOCABULARY, (len(rows), longest)).astype(np.int32)
    for row, tokens_so_far in enumerate(rows):
        history[row, : len(tokens_so_far)] = tokens_so_far
    return history, np.array([len(row) for row in rows])


penalties = st.builds(
    options,
    repetition_penalty=st.just(1.0) | st.floats(0.1, 10),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
)


@given(st.lists(st.tuples(logit_rows, histories, penalties), min_size=1, max_size=4))
def test_penalties(rows: list[tuple[list[float], list[int], DecodingOptions]]) -> None:
    expected = []
    for logits, history, given_options in rows:
        expected.append(list(logits))
        for token in set(history):
            value, repetition = logits[token], given_options.repetition_penalty
            value = value / repetition if value > 0 else value * repetition
            value -= given_options.presence_penalty + given_options.frequency_penalty * history.count(token)
            expected[-1][token] = value
    changed = np.array([logits for logits, _, _ in rows])
    penalise(changed, *padded([history for _, history, _ in rows]), [given_options for _, _, given_options in rows])
    np.testing.assert_allclose(changed, expected, rtol=1e-12, atol=1e-12)


@given(st.lists(histories, min_size=1, max_size=4), st.integers(1, 5))
def test_no_ngram_comes_twice(rows: list[list[int]], size: int) -> None:
    expected = set()
    for row, history in enumerate(rows):
        ngrams = {tuple(history[i : i + size]) for i in range(len(history) - size + 1)}
        expected |= {
            (row, t) for t in range(VOCABULARY) if tuple([*history, t][-size:]) in ngrams and len(history) + 1 >= size
        }
    which, ids = repeating(*padded(rows), size)
    assert set(zip(which.tolist(), ids.tolist(), strict=True)) == expected


@given(histories, st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=4))
def test_banned_sequences(history: list[int], sequences: list[list[int]]) -> None:
    expected = {t for t in range(VOCABULARY) for s in sequences if [*history, t][-len(s) :] == s}
    assert set(completing(history, sequences)) == expected


restrictions = st.builds(
    options,
    allowed=st.none() | st.lists(tokens, min_size=1, unique=True).map(tuple),
    banned=st.lists(st.lists(tokens, min_size=1, max_size=2).map(tuple), max_size=8).map(tuple),
    no_repeat_ngram_size=st.integers(0, 3),
    min_length=st.integers(0, 12),
)


def restricted(scores: list[float], history: list[int], given_options: DecodingOptions) -> list[float]:
    def may_come(token: int) -> bool:
        grown, ngram = [*history, token], given_options.no_repeat_ngram_size
        if token == EOS and len(history) < given_options.min_length:
            return False
        if given_options.allowed is not None and token not in given_options.allowed and token != EOS:
            return False
        if any(tuple(grown[-len(sequence) :]) == sequence for sequence in given_options.banned):
            return False
        earlier = [tuple(history[i : i + ngram]) for i in range(len(history) - ngram + 1)]
        return not (ngram and len(grown) >= ngram and tuple(grown[-ngram:]) in earlier)

    expected = [score if may_come(token) else -math.inf for token, score in enumerate(scores)]
    if max(expected) == -math.inf:
        expected[EOS] = scores[EOS]  # something has to come
    return expected


@given(st.lists(st.tuples(logit_rows, histories, restrictions), min_size=1, max_size=4))
def test_restrictions_together(rows: list[tuple[list[float], list[int], DecodingOptions]]) -> None:
    scores = np.array([logits for logits, _, _ in rows])
    restrict(scores, *padded([history for _, history, _ in rows]), [given for _, _, given in rows], EOS)
    assert scores.tolist() == [restricted(*row) for row in rows]


@given(
    st.lists(
        st.lists(st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 1.0]), min_size=9, max_size=9), min_size=1, max_size=4
    ),
    st.integers(1, 11),
)
def test_the_best_come_first_and_of_equals_the_lower_id(rows: list[list[float]], count: int) -> None:
    values = np.array(rows)
    ids, greatest = likeliest_of(values, count)
    assert values.tolist() == rows
    for row, found, theirs in zip(rows, ids.tolist(), greatest.tolist(), strict=True):
        expected = sorted((i for i, v in enumerate(row) if v > -math.inf), key=lambda i: (-row[i], i))[:count]
        assert found[: len(expected)] == expected
        assert theirs == [row[i] for i in expected] + [-math.inf] * (count - len(expected))


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (logits - log_sums(logits)).astype(np.float32)


def test_log_softmax_is_of_each_row_for_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 20_000)).astype(np.float32) * 20
    expected = []
    for row in logits.astype(float).tolist():
        total = math.log(sum(math.exp(value) for value in row))
        expected.append([value - total for value in row])
    np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-5)
    for at in range(5):
        np.testing.assert_array_equal(log_sums(logits[at : at + 1])[0], log_sums(logits)[at])


def candidates(logits: npt.NDArray[np.float32], histories: list[list[int]], *given: DecodingOptions) -> Candidates:
    """Of rows with these histories, all of which read the logits."""
    table = HypothesisTable(len(logits), 20, 4)
    for row, (history, given_options) in enumerate(zip(histories, given, strict=True)):
        table.start(row, Request([4, 3], given_options, lambda outcome: None), 2, ALWAYS)
        table.history[row, : len(history)], table.steps[row] = history, len(history)
    log_probs = log_softmax(logits)
    ids = np.argsort(-log_probs, axis=1, kind="stable")
    output = StepOutput(np.take_along_axis(log_probs, ids, axis=1), ids, logits)
    return Candidates(output, table, np.arange(len(logits)), EOS)


def test_restrictions_leave_the_models_probabilities_alone_and_penalties_do_not() -> None:
    logits = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * 2, np.float32)
    plain = log_softmax(logits)[0]
    found = candidates(
        logits,
        [[5], [5]],
        options(banned=((6,),), alternatives=3),
        options(presence_penalty=2.0, alternatives=3),
    )
    assert found.ids[:, :3].tolist() == [[5, 4, 3], [6, 4, 3]]
    assert found.log_probs[0, :3] == pytest.approx(plain[[5, 4, 3]], abs=1e-6)
    changed = log_softmax(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 3.0, 6.0]], np.float32))[0]
    assert found.log_probs[1, :3] == pytest.approx(changed[[6, 4, 3]], abs=1e-6)
    assert not found.faults


def test_what_a_text_had_come_to_before_counts_as_produced() -> None:
    logits = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * 4, np.float32)
    given: dict[str, Any] = {
        "alternatives": 3,
        "frequency_penalty": 1.5,
        "no_repeat_ngram_size": 2,
        "banned": ((4, 5, 2),),
    }
    found = candidates(
        logits,
        [[6, 4, 6, 4, 5], [4, 5], [5], []],
        options(**given),
        options(**given, earlier=(6, 4, 6)),
        options(**given, earlier=(6, 4, 6, 4)),
        options(**given, earlier=(6, 4, 6, 4, 5), min_length=1),
    )
    for row in (1, 2):
        np.testing.assert_array_equal(found.ids[row], found.ids[0])
        np.testing.assert_array_equal(found.log_probs[row], found.log_probs[0])
    assert EOS in found.ids[0, :3]
    assert EOS not in found.ids[3, :3], "the fewest tokens are counted from where it goes on"


def test_what_is_forced_has_its_own_probability_whatever_is_banned() -> None:
    logits = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], np.float32)
    found = candidates(logits, [[5]], options(banned=((6,),), allowed=(4,), prefix=(5, 6)))
    assert found.of(0, 6) == pytest.approx(log_softmax(logits)[0, 6], abs=1e-6)


def test_both_sources_of_scores_agree_and_no_row_depends_on_another() -> None:
    logits = np.random.default_rng(1).normal(size=(3, VOCABULARY)).astype(np.float32)
    kinds = [options(alternatives=4), options(repetition_penalty=1.3, beam_size=3), options(min_length=9)]
    together = candidates(logits, [[], [4, 5], [6]], *kinds)
    expected = np.argsort(-logits[0], kind="stable")[:4]
    assert together.ids[0, :4].tolist() == expected.tolist()
    np.testing.assert_allclose(together.log_probs[0, :4], log_softmax(logits)[0, expected], atol=1e-6)
    for row, history in enumerate([[], [4, 5], [6]]):
        alone = candidates(logits[row : row + 1], [history], kinds[row])
        columns = kinds[row].candidates
        assert alone.ids[0, :columns].tolist() == together.ids[row, :columns].tolist()
        assert alone.log_probs[0, :columns].tolist() == together.log_probs[row, :columns].tolist()


@pytest.mark.parametrize("fault", [math.nan, math.inf])
@pytest.mark.parametrize("kind", [options(min_length=2), options(presence_penalty=0.5)])
def test_scores_that_are_no_numbers(fault: float, kind: DecodingOptions) -> None:
    logits = np.zeros((2, VOCABULARY), np.float32)
    logits[1, 5], logits[0, 6] = fault, 1
    found = candidates(logits, [[4], [4]], kind, kind)
    assert list(found.faults) == [1]
    assert isinstance(found.faults[1], NonFiniteScoreError)
    assert "at step 2" in str(found.faults[1])
    assert found.ids[:, 0].tolist() == [6, EOS]
    assert np.isfinite(found.log_probs[:, 0]).all()
