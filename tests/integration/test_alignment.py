"""The default model's words, aligned by its attention, against pairs aligned by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_server.explaining.words import words
from tests.bench.alignment import error_rates, examples
from tests.integration.aligned import AlignedPair, alignment_error_rate, hand_aligned

BUNDLE = Path(__file__).parents[2] / "models" / "deu-eng" / "1"


def test_the_hand_made_alignment_names_words_that_are_there() -> None:
    for pair in hand_aligned():
        german, english = len(words(pair.de)), len(words(pair.en))
        assert {de for de, _ in pair.possible} <= set(range(german)), pair.de
        assert {en for _, en in pair.possible} <= set(range(english)), pair.en
        assert (german - 1, english - 1) in pair.sure, "both end in a full stop or a question mark"


def test_the_error_rate_worked_by_hand() -> None:
    pair = AlignedPair("", "", frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (2, 1)}))
    found = frozenset({(0, 0), (2, 1), (3, 3)})
    # One of three is sure, two are possible; there are two sure ones: 1 - (1 + 2) / (3 + 2).
    assert alignment_error_rate([pair], [found]) == pytest.approx(0.4)
    assert alignment_error_rate([pair], [pair.sure]) == 0.0


def test_the_default_models_alignment() -> None:
    german, english = error_rates(examples(BUNDLE))
    assert german < 0.15
    assert english < 0.15
