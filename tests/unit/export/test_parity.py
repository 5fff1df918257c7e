from __future__ import annotations

from collections import Counter

import pytest

from dragoman_export.parity import choose_sentences, find_ties, first_difference
from dragoman_export.probes import PROBES, output_hash
from dragoman_export.reference import fed_part
from dragoman_export.sentences import Direction

BOTH = [Direction("en", "de"), Direction("de", "en")]


def test_sentences_are_spread_over_lines_and_directions() -> None:
    chosen = choose_sentences(3300, BOTH)
    assert len(set(chosen)) == 500
    counts = Counter(str(sentence.direction) for sentence in chosen)
    assert counts == {"en-de": 250, "de-en": 250}
    assert min(s.line for s in chosen) == 1
    assert max(s.line for s in chosen) > 3200


def test_a_small_test_set_is_taken_whole() -> None:
    chosen = choose_sentences(3, BOTH)
    assert [(s.line, str(s.direction)) for s in chosen[:3]] == [(1, "en-de"), (1, "de-en"), (2, "en-de")]
    assert len(chosen) == 6


@pytest.mark.parametrize(("left", "right", "step"), [([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([], [5], 0)])
def test_where_outputs_part(left: list[int], right: list[int], step: int) -> None:
    assert first_difference(left, right) == step


def test_ties_carry_line_direction_and_gap() -> None:
    sentences = choose_sentences(2, BOTH)
    expected, found = [[1], [2, 3], [4], [5]], [[1], [2], [4], [6]]
    gaps = [[9.0, 9.0], [9.0, 0.125, 9.0], [9.0, 9.0], [0.5, 9.0]]
    ties = find_ties(sentences, expected, found, gaps)
    assert [(tie.line, tie.direction, tie.logit_gap) for tie in ties] == [(1, "de-en", 0.125), (2, "de-en", 0.5)]


def test_the_last_token_of_a_cut_target_is_not_fed_back() -> None:
    assert fed_part([7, 8, 9], 3) == [7, 8]
    assert fed_part([7, 8, 9], 4) == [7, 8, 9]


def test_hashes_tell_outputs_apart() -> None:
    assert len(output_hash([1, 23])) == 16
    assert output_hash([1, 23]) != output_hash([12, 3])


def test_the_probes_are_forty_different_sentences() -> None:
    assert all(len(set(texts)) == 20 for texts in PROBES.values())
    assert set(PROBES) == {"en", "de"}
