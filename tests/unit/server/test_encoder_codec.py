from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dragoman_model.encoder_tokenizer import encode_words, train_encoder_tokenizer
from dragoman_server.encoder_codec import EncoderCodec
from tests.unit.server.tiny_encoder import CLS, MASK, SENTENCES, SEP

UNCASED = [*SENTENCES, "Müde Füße laufen nicht weit.", "Zwei Äpfel und ein Ei."]
LETTERS = st.text(st.sampled_from("aZéü ßĲ1 .,!?-_\n\t😀語🇩e\u0301[]MASK"), max_size=40)


def trained() -> Tokenizer:
    return train_encoder_tokenizer(UNCASED, 330, lowercase=True)


@pytest.fixture(scope="module")
def codec() -> EncoderCodec:
    return EncoderCodec(trained(), cls=CLS, sep=SEP, mask=MASK)


def test_a_text_and_a_pair_are_framed(codec: EncoderCodec) -> None:
    one, two = codec.encode_batch(["the old town", "a heron"])
    assert codec.single(one) == ([CLS, *one, SEP], None, ())
    pair = codec.pair(one, two)
    assert pair.ids == [CLS, *one, SEP, *two, SEP]
    assert pair.segments == [0] * (len(one) + 2) + [1] * (len(two) + 1)


def test_special_tokens_in_a_text_are_plain_text(codec: EncoderCodec) -> None:
    (ids,) = codec.encode_batch(["[CLS] [SEP] [MASK]"])
    assert not codec.special & set(ids)
    assert not codec.special & set(codec.words("a [SEP] b").ids)
    assert codec.masked("a [SEP] b").positions == []


def test_words_stand_where_the_text_has_them(codec: EncoderCodec) -> None:
    text = "Müde\tFüße, 😀 l\u00e4uft"
    words = codec.words(text)
    assert [text[begin:end] for begin, end in words.spans] == ["Müde", "Füße", ",", "😀", "läuft"]
    assert words.first[0] == 0
    assert words.ids == codec.encode_batch([text])[0]


@given(LETTERS)
@settings(max_examples=200, deadline=None)
def test_words_are_in_order_and_leave_out_white_space_alone(codec: EncoderCodec, text: str) -> None:
    words = codec.words(text)
    end = 0
    for begin, next_end in words.spans:
        assert not text[end:begin].strip()
        assert begin < next_end
        assert not re.search(r"\s", text[begin:next_end])
        end = next_end
    assert not text[end:].strip()
    starts = [number for number in words.first if number is not None]
    assert starts == sorted(set(starts))
    assert all(number < len(words.ids) for number in starts)


@given(st.lists(st.text(st.sampled_from("aZéüß1語e\u0301"), min_size=1, max_size=8), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_words_are_read_as_in_training(codec: EncoderCodec, words: list[str]) -> None:
    """A tagger sees the pieces that it was trained on, and its tags stand at the same ones."""
    text = " ".join(words)
    found = codec.words(text)
    (learned,) = encode_words(trained_once, [[text[begin:end] for begin, end in found.spans]])
    assert (found.ids, found.first) == (learned.ids, learned.first)


trained_once = trained()


def test_masks_are_found_and_the_text_around_them_is_kept(codec: EncoderCodec) -> None:
    text = "The [MASK] heron[MASK] stands."
    masked = codec.masked(text)
    assert masked.spans == [(4, 10), (16, 22)]
    assert masked.spaced == [True, False]
    assert [masked.ids[position] for position in masked.positions] == [MASK, MASK]
    rest = [token_id for token_id in masked.ids if token_id != MASK]
    assert codec.decode(rest) == "the heron stands ."
    assert codec.with_masks(masked).mask_positions == [1 + position for position in masked.positions]
    assert codec.with_masks(masked).ids[0] == CLS


def test_adjacent_masks_and_nothing_else(codec: EncoderCodec) -> None:
    masked = codec.masked("[MASK][MASK]")
    assert (masked.ids, masked.positions, masked.spaced) == ([MASK, MASK], [0, 1], [True, False])


def test_a_candidate_reads_as_it_would_in_its_place(codec: EncoderCodec) -> None:
    (word,) = (ids[0] for ids in codec.encode_batch(["the"]))
    masked = codec.masked("heron [MASK], heron[MASK] [MASK]")
    assert codec.token(word) == "Ġthe"
    assert codec.reads_in_place(word, masked, 0) == "the"
    assert codec.reads_in_place(word, masked, 1) == " the"  # a new word, where none was expected
    assert codec.reads_in_place(word, masked, 2) == "the"


@given(LETTERS)
@settings(max_examples=100, deadline=None)
def test_any_text_can_have_masks(codec: EncoderCodec, text: str) -> None:
    masked = codec.masked(text)
    assert len(masked.spans) == len(masked.positions) == len(masked.spaced) == text.count("[MASK]")
    assert all(text[begin:end] == "[MASK]" for begin, end in masked.spans)
    assert masked.ids.count(MASK) == len(masked.positions)
    for number in range(len(masked.spans)):
        assert isinstance(codec.reads_in_place(len(codec.special) + 7, masked, number), str)
