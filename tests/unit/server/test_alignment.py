from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dragoman_server.explaining.alignment import align, linked, producing, word_attention
from dragoman_server.explaining.graph import Array
from dragoman_server.explaining.tokens import decoded_offsets, read_tokens
from dragoman_server.explaining.words import word_of_tokens, words
from dragoman_server.tokenization import TextCodec


def codec(normalise: bool = False) -> TextCodec:
    """Byte-level, few pieces: most characters beyond ASCII take several tokens. A space is put before a text."""
    tokenizer = Tokenizer(models.BPE())
    if normalise:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["der alte Hafen", "das grüne Fahrrad", "the old harbour"], trainer)
    return TextCodec(tokenizer, tags={}, eos=0)


CODEC = codec()


def texts_of_words(text: str) -> list[str]:
    return [text[begin:end] for begin, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, e-mail me!", ["Don't", "stop", ",", "e-mail", "me", "!"]),
        ("  'so' - fine...", ["'", "so", "'", "-", "fine", "..."]),
        ("cafe\u0301 na\u0308h", ["cafe\u0301", "na\u0308h"]),  # combining accents stay with their letters
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are marks
        ("x\u200dy 3,50 €", ["x\u200dy", "3", ",", "50", "€"]),
        ("\u0301 a", ["\u0301", "a"]),  # a mark with nothing before it
        ("", []),
        (" \n\t", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert texts_of_words(text) == expected


@example("\r\xad")  # a mark after white space
@given(st.text(max_size=30))
def test_words_hold_everything_but_white_space_once(text: str) -> None:
    found = words(text)
    assert "".join(text[b:e] for b, e in found) == "".join(text.split())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))


def test_sub_words_belong_to_their_words() -> None:
    text = "das grüne Fahrrad"
    offsets = CODEC.offsets(text)
    joined = word_of_tokens(offsets, words(text))
    assert set(joined) == {0, 1, 2}
    assert joined == sorted(joined, key=lambda word: -1 if word is None else word)
    assert word_of_tokens([(0, 0), (3, 4)], words(text)) == [None, None]  # special, and a space alone


@pytest.mark.parametrize("text", ["👋🏽 hi", "naïve cafe\u0301", "日本 ok"])
def test_tokens_that_share_a_character_share_its_word(text: str) -> None:
    text_codec = codec(normalise=True)
    offsets = text_codec.offsets(text)
    joined = word_of_tokens(offsets, words(text))
    real = [
        word for word, token in zip(joined, text_codec.tokens(text_codec.encode(text)), strict=True) if token != "Ġ"
    ]
    assert None not in real
    assert real[-1] == 1


@given(st.text(alphabet="aäe\u0301ß 日👋🏽.Hafen", max_size=12))
def test_places_of_decoded_tokens_are_their_own(text: str) -> None:
    ids = CODEC.encode(text)
    decoded = CODEC.decode(ids)
    places = decoded_offsets(ids, decoded, CODEC)
    assert len(places) == len(ids)
    assert all(0 <= begin <= end <= len(decoded) for begin, end in places)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(places))
    covered = {place for begin, end in places for place in range(begin, end)}
    assert covered == set(range(len(decoded)))


def test_places_of_bytes_of_one_character() -> None:
    ids = CODEC.encode("ä日")
    decoded = CODEC.decode(ids)
    assert decoded == "ä日"
    places = decoded_offsets(ids, decoded, CODEC)
    # Two bytes and three; the first token of a text may have the space that is put before it alone.
    assert [place for place in places if place != (0, 0)] == [(0, 1)] * 2 + [(1, 2)] * 3


def test_white_space_around_a_token_is_left_out() -> None:
    read = read_tokens([1, 2, 3], [(0, 3), (3, 8), (8, 9)], "der  alt ", after=10)
    assert [(token.begin, token.end) for token in read] == [(10, 13), (15, 18), (18, 19)]


def matrix(rows: Sequence[Sequence[float]]) -> Array:
    return np.array(rows, np.float32)


def test_the_step_before_produces_a_token() -> None:
    cross = matrix([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])[None, None]
    assert producing(cross) == pytest.approx(matrix([[0.1, 0.9], [0.1, 0.9], [0.8, 0.2]]))


def test_words_get_the_mean_over_their_tokens_of_the_sum_over_a_words() -> None:
    # Keys: tag, "a" (two tokens), "b", end. Queries: bos, "x", "y" (two tokens).
    tokens = matrix([[1, 0, 0, 0, 0], [0.2, 0.3, 0.3, 0.2, 0], [0, 0.1, 0.1, 0.8, 0], [0.5, 0, 0.1, 0.2, 0.2]])
    shares = word_attention(tokens, [None, 0, 0, 1, None], [None, 0, 1, 1])
    # x: (.6 .2) of .8; y: mean of (.2 .8) and (.1 .2) = (.15 .5) of .65.
    assert shares == pytest.approx(matrix([[0.75, 0.25], [0.15 / 0.65, 0.5 / 0.65]]))
    assert linked(shares) == [(0, 0), (1, 1)]
    assert linked(matrix([[0.45, 0.55], [0.0, 0.0]])) == [(0, 0), (0, 1)]


def test_links_are_places_of_words() -> None:
    tokens = matrix([[0.9, 0.1, 0.0, 0.0], [0.0, 0.5, 0.4, 0.1], [0.1, 0.0, 0.0, 0.9]])
    links = align(tokens, ("Ja, du", [(0, 0), (0, 2), (2, 3), (4, 6)]), ("Yes you", [(0, 0), (0, 3), (4, 7)]))
    assert [(link.source, link.target) for link in links] == [((0, 2), (0, 3)), ((2, 3), (0, 3)), ((4, 6), (4, 7))]
    assert links[2].weight == pytest.approx(1.0)


def test_a_text_without_words_has_no_links() -> None:
    assert align(matrix([[1.0]]), ("", [(0, 0)]), ("x", [(0, 1)])) == []
