"""Scores by hand and by their definitions."""

from __future__ import annotations

import pytest

from dragoman_model.metrics import translation_scores

TEXTS = ["the old house stands near the river", "we drink tea in the garden every day"]


def test_a_perfect_translation_scores_full_marks() -> None:
    scores = translation_scores(TEXTS, [[t] for t in TEXTS])
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.wer == 0
    assert "nrefs:1" in scores.bleu_signature
    assert "version:" in scores.chrf_signature


def test_word_error_rate_counts_against_the_closest_reference() -> None:
    # "a b x d e": one substitution and one deletion of five words; "q" would cost four.
    assert translation_scores(["a b c d"], [["a b x d e", "q"]]).wer == pytest.approx(100.0 * 2 / 5)
    assert translation_scores(["a b c d"], [["q"]]).wer == pytest.approx(100.0 * 4 / 1)


def test_several_references_help_even_where_sentences_have_different_numbers() -> None:
    one = translation_scores(TEXTS, [["the ancient home stands near the river"], [TEXTS[1]]])
    two = translation_scores(TEXTS, [["the ancient home stands near the river", TEXTS[0]], [TEXTS[1]]])
    assert two.bleu > one.bleu
    assert two.bleu == pytest.approx(100)


def test_lists_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 hypotheses, but references for 1"):
        translation_scores(TEXTS, [["x"]])
    with pytest.raises(ValueError, match="at least one reference"):
        translation_scores(TEXTS, [["x"], []])
    with pytest.raises(ValueError, match="at least one reference"):
        translation_scores([], [])
