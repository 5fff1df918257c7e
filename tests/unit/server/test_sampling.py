"""Truncations against naive restatements, frequencies by chi-square, and random numbers by the seed alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.draws import Truncations, distributions, draw_columns
from dragoman_server.decoding.options import SamplingOptions
from dragoman_server.decoding.sampling import distribution, draw, min_p, top_k, top_p, typical_p, uniforms

weights = st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any)


def normalised(values: list[int]) -> npt.NDArray[np.float64]:
    return np.array([value / sum(values) for value in values], np.float64)


def survivors(probabilities: npt.NDArray[np.float64]) -> set[int]:
    assert probabilities.sum() == pytest.approx(1)
    return set(np.flatnonzero(probabilities).tolist())


def naive_reaching(probabilities: npt.NDArray[np.float64], keys: list[float], mass: float) -> set[int]:
    kept: set[int] = set()
    total = 0.0
    for index in sorted(range(len(keys)), key=lambda i: (keys[i], i)):
        kept.add(index)
        total += probabilities[index]
        if total >= mass:
            break
    return {index for index in kept if probabilities[index] > 0}


@given(weights, st.integers(1, 35))
def test_top_k(values: list[int], k: int) -> None:
    p = normalised(values)
    best = sorted(range(len(p)), key=lambda i: (-p[i], i))[:k]
    assert survivors(top_k(p, k)) == {i for i in best if p[i] > 0}


@given(weights, st.floats(0.01, 1))
def test_top_p(values: list[int], mass: float) -> None:
    p = normalised(values)
    assert survivors(top_p(p, mass)) == naive_reaching(p, [-x for x in p], mass)


@given(weights, st.floats(0, 1))
def test_min_p(values: list[int], share: float) -> None:
    p = normalised(values)
    assert survivors(min_p(p, share)) == {i for i, x in enumerate(p) if x >= share * max(p) and x > 0}


@given(weights, st.floats(0.01, 1))
def test_typical_p(values: list[int], mass: float) -> None:
    p = normalised(values)
    # The same arithmetic as in the code where ties are concerned, so that rounding does not decide.
    surprise = [-float(np.log(x)) if x > 0 else math.inf for x in p]
    possible = p > 0
    entropy = float(p[possible] @ np.array(surprise)[possible])
    keys = [abs(s - entropy) for s in surprise]
    assert survivors(typical_p(p, mass)) == naive_reaching(p, keys, mass)


def test_a_nucleus_in_a_large_vocabulary() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(20_000, 0.05))
    for mass in (0.1, 0.5, 0.9, 0.999, 1.0):
        assert survivors(top_p(p, mass)) == naive_reaching(p, (-p).tolist(), mass)


def test_temperature_comes_first_and_each_truncation_works_on_what_is_left() -> None:
    log_probs = np.log([0.5, 0.3, 0.15, 0.05])
    sharp = distribution(log_probs, SamplingOptions(seed=0, temperature=0.5))
    np.testing.assert_allclose(sharp, np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365)
    # Of the two likeliest, 0.625 and 0.375, the first alone reaches 0.6; of all, it would take two.
    both = distribution(log_probs, SamplingOptions(seed=0, top_k=2, top_p=0.6))
    np.testing.assert_allclose(both, [1, 0, 0, 0])
    assert survivors(distribution(log_probs, SamplingOptions(seed=0, top_p=0.6))) == {0, 1}
    assert survivors(distribution(log_probs, SamplingOptions(seed=0, min_p=0.25))) == {0, 1, 2}
    flat = distribution(np.array([0.0, -np.inf, -1000.0]), SamplingOptions(seed=0, temperature=10))
    assert survivors(flat) == {0, 2}


samplings = st.builds(
    SamplingOptions,
    seed=st.just(0),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.integers(1, 8),
    top_p=st.sampled_from([1.0, 0.9, 0.62, 0.17]),
    min_p=st.sampled_from([0.0, 0.03, 0.21]),
    typical_p=st.sampled_from([1.0, 0.83, 0.41]),
)
candidates = st.tuples(
    # As the graph gives them: likeliest first, of equals the lower id.
    st.lists(
        st.tuples(st.floats(-9, -0.0078125, width=32), st.integers(0, 30)),
        min_size=8,
        max_size=8,
        unique_by=lambda pair: pair[1],
    ).map(lambda pairs: sorted(pairs, key=lambda pair: (-pair[0], pair[1]))),
    samplings,
    st.floats(0, 1, exclude_max=True),
)
Candidate = tuple[list[tuple[float, int]], SamplingOptions, float]


@settings(deadline=None)
@given(st.lists(candidates, min_size=1, max_size=5))
def test_drawing_for_many_at_one_time_is_drawing_for_each(rows: list[Candidate]) -> None:
    def draws(some: list[Candidate]) -> tuple[list[int], list[list[float]]]:
        truncations = Truncations()
        for _, options, _ in some:
            truncations.add(options, 1)
        log_probs = np.array([[pair[0] for pair in pairs] for pairs, _, _ in some], np.float32)
        ids = np.array([[pair[1] for pair in pairs] for pairs, _, _ in some])
        columns = draw_columns(ids, log_probs, truncations, np.array([number for _, _, number in some]))
        return columns.tolist(), distributions(log_probs, truncations).tolist()

    columns, probabilities = draws(rows)
    for row, column, found in zip(rows, columns, probabilities, strict=True):
        assert draws([row]) == ([column], [found])  # to the bit, whoever else is there
        pairs, options, number = row
        order = np.argsort([token_id for _, token_id in pairs])
        expected = distribution(np.array([pair[0] for pair in pairs], np.float32)[order], options)
        np.testing.assert_allclose(np.array(found)[order], expected, atol=1e-9)
        if np.abs(np.cumsum(expected) - number).min() > 1e-9:  # else rounding decides
            assert order[draw(expected, number)] == column


def test_a_draw_at_the_very_end_is_the_last_that_is_possible() -> None:
    truncations = Truncations()
    truncations.add(SamplingOptions(seed=0, top_k=3), 1)
    ids, log_probs = np.array([[5, 9, 7, 8]]), np.log(np.array([[0.4, 0.3, 0.2, 0.1]]))
    assert draw_columns(ids, log_probs, truncations, np.array([1.0])).tolist() == [1]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.8, "top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"typical_p": 0.7},
]


@pytest.mark.parametrize("given_options", SETTINGS)
def test_frequencies_by_chi_square(given_options: dict[str, Any]) -> None:
    log_probs = np.log(np.array([0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.04]))
    expected = distribution(log_probs, SamplingOptions(seed=0, **given_options))
    draws = 20_000
    # As the engine draws: a sample has a seed and number, and one number for each step.
    numbers = [number for sample in range(200) for number in uniforms(11, sample, draws // 200)]
    counts = np.bincount([draw(expected, number) for number in numbers], minlength=8)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = float(((counts - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum())
    # The 99.9% points of the chi-square distribution with 1 to 7 degrees of freedom.
    limits = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32]
    assert statistic < limits[int(possible.sum()) - 1]


def test_random_numbers_depend_on_seed_sample_and_step_alone() -> None:
    largest = 2**64 - 1
    series = {(seed, sample): uniforms(seed, sample, 50) for seed in (0, 1, largest) for sample in (0, 1, 15)}
    assert len({tuple(numbers) for numbers in series.values()}) == 9
    for (seed, sample), numbers in series.items():
        np.testing.assert_array_equal(uniforms(seed, sample, 10), numbers[:10])
        assert ((numbers >= 0) & (numbers < 1)).all()
    # Philox-4x64 is specified to the bit: the text of a seed outlives this process and machine.
    np.testing.assert_array_equal(uniforms(7, 2, 3), PHILOX_7_2)


PHILOX_7_2 = [float.fromhex(text) for text in ("0x1.77587c20037bep-2", "0x1.997d47c3ac788p-2", "0x1.b22cd807d6d0bp-1")]


@pytest.mark.parametrize(
    ("uniform", "expected"), [(0.0, 1), (0.2499, 1), (0.25, 3), (0.75, 4), (math.nextafter(1, 0), 4)]
)
def test_the_inverse_of_the_cumulative_probability(uniform: float, expected: int) -> None:
    assert draw(np.array([0, 0.25, 0, 0.5, 0.25, 0]), uniform) == expected
