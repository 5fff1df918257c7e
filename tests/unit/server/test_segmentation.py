"""Texts into segments and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dragoman_server.service.segmentation import Span, cut, has_line_break, join, sentences, translatable

LETTERS = st.characters(exclude_categories=["Cs"])
TRICKY = st.sampled_from(
    [*"aBz3.!?,;:'\"()- \n\r\t\v\f\x85\xa0\u2028\u3000\u3002\u201c\u0301", "Dr. ", "z. B. ", "\r\n"]
)
TEXTS = st.lists(st.one_of(TRICKY, LETTERS), max_size=60).map("".join)


def parts(text: str, language: str = "en") -> list[str]:
    return [text[begin:end] for begin, end in sentences(text, language)]


def test_sentences_lines_and_abbreviations() -> None:
    text = '  Dr. Smith came at 3.15 p.m. today.  "Why?" he said.\n\n\t- one\r\n- two...\u2028Ende. '
    assert parts(text) == ["Dr. Smith came at 3.15 p.m. today.", '"Why?" he said.', "- one", "- two...", "Ende."]
    assert parts("Am 3. Mai kam z. B. Dr. Müller. Er ging.", "de") == ["Am 3. Mai kam z. B. Dr. Müller.", "Er ging."]
    assert parts("これは本です。はい。", "ja") == ["これは本です。", "はい。"]
    assert parts("Where is it?") == ["Where is it?"]
    assert parts(" \n ") == []


@given(TEXTS, st.sampled_from(["en", "de", "ja", "ru", "xx", "zh-Hant"]))
@example('."B A\u2028.', "en")
@example("J\u3000\xa0J \xa0.'.", "de")
def test_segments_are_in_order_without_blanks_and_lose_nothing(text: str, language: str) -> None:
    spans = sentences(text, language)
    read, kept = 0, []
    for begin, end in spans:
        assert read <= begin < end
        segment = text[begin:end]
        assert segment == segment.strip()
        assert not has_line_break(segment)
        assert not text[read:begin].strip()
        kept.append(segment)
        read = end
    assert not text[read:].strip()
    assert join(text, spans, kept) == (text, spans)


@given(TEXTS, st.data())
def test_translations_stand_where_they_are_said_to(text: str, data: st.DataObject) -> None:
    spans = sentences(text, "en")
    translations = [data.draw(TEXTS) for _ in spans]
    joined, targets = join(text, spans, translations)
    assert [joined[begin:end] for begin, end in targets] == translations
    edges = [0, *(edge for target in targets for edge in target), len(joined)]
    places = [0, *(edge for span in spans for edge in span), len(text)]
    blanks = [joined[begin:end] for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    assert blanks == [text[begin:end] for begin, end in zip(places[::2], places[1::2], strict=True)]


def word_offsets(text: str) -> list[Span]:
    """A token for each word and each mark."""
    return [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]


def byte_offsets(text: str) -> list[Span]:
    """A token for each byte."""
    return [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode("utf-8", "surrogatepass")]


def pieces(text: str, room: int) -> list[str]:
    return [text[begin:end] for begin, end in cut(text, (0, len(text)), room, word_offsets)]


def test_a_long_sentence_is_cut_after_a_clause_else_between_words_else_anywhere() -> None:
    assert pieces("one, two three; four five six", 5) == ["one, two three;", "four five six"]
    assert pieces("one two three four five", 2) == ["one two", "three four", "five"]
    assert pieces("a, one two three four five", 5) == ["a, one two three", "four five"]
    assert cut("xabcdefgx", (1, 8), 3, byte_offsets) == [(1, 4), (4, 7), (7, 8)]
    assert cut("one two", (0, 7), 2, word_offsets) == [(0, 7)]


@given(TEXTS, st.integers(1, 9), st.sampled_from([word_offsets, byte_offsets]))
def test_pieces_fit_and_lose_nothing(text: str, room: int, offsets: object) -> None:
    assert callable(offsets)
    for span in sentences(text, "en"):
        spans = cut(text, span, room, offsets)
        for begin, end in spans:
            assert end - begin == 1 or len(offsets(text[begin:end])) <= room
        assert join(text, spans, [text[begin:end] for begin, end in spans]) == (text, spans)
        begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
        for left, right in zip([span[0], *ends], [*begins, span[1]], strict=True):
            assert not text[left:right].strip()


def test_a_piece_that_has_more_tokens_alone_is_cut_again() -> None:
    def offsets(text: str) -> list[Span]:  # a beginning costs two tokens more than a middle
        return [(0, 0), (0, 0), *byte_offsets(text)]

    spans = cut("abcdefghij", (0, 10), 5, offsets)
    assert all(len(offsets("abcdefghij"[b:e])) <= 5 for b, e in spans)
    assert [b for b, _ in spans] == [0, *(e for _, e in spans)][:-1]


@pytest.mark.parametrize(("text", "is_it"), [("a", True), ("--- 7", True), ("…", False), ("日", True), ("!? *", False)])
def test_what_a_model_can_translate(text: str, is_it: bool) -> None:
    assert translatable(text) is is_it
