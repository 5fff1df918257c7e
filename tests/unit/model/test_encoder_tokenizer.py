"""An encoder's vocabulary: special ids, words and their first pieces, offsets into the text as it was given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dragoman_model.encoder_tokenizer import SPECIALS, encode_words, set_case, train_encoder_tokenizer
from dragoman_model.tokenizer import load_tokenizer, token_id
from tests.unit.model.small import PAIRS

TEXTS = [english for english, _ in PAIRS] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_encoder_tokenizer(TEXTS, 320)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_special_ids_stand_first_and_no_text_can_speak_them(tokenizer: Tokenizer) -> None:
    assert [token_id(tokenizer, token) for token in SPECIALS] == [0, 1, 2, 3, 4]
    assert min(ids(tokenizer, "[CLS] the [MASK] [SEP]")) > 4


def test_a_text_and_the_list_of_its_words_have_the_same_pieces(tokenizer: Tokenizer) -> None:
    words = ["the", "cat", ",", "it", "sleeps", "..."]
    assert encode_words(tokenizer, [words])[0].ids == ids(tokenizer, "the cat, it  sleeps...")


def test_a_word_stands_at_its_first_piece(tokenizer: Tokenizer) -> None:
    words = ["the", "straße", "n't", "東京", "e\u0301t", ""]
    encoded = encode_words(tokenizer, [words])[0]
    begins = [0]
    for word in words[:-1]:
        begins.append(begins[-1] + len(ids(tokenizer, word)))
    assert encoded.first == [*begins[:-1], None]
    assert len(encoded.ids) == begins[-1]


@settings(deadline=None, max_examples=150)
@given(words=st.lists(st.text(max_size=8), max_size=8))
def test_alignment_holds_for_any_words(tokenizer: Tokenizer, words: list[str]) -> None:
    encoded = encode_words(tokenizer, [words])[0]
    there = [number for number in encoded.first if number is not None]
    assert there == sorted(set(there))
    assert encoded.ids == [i for word in words for i in encode_words(tokenizer, [[word]])[0].ids]
    for word, number in zip(words, encoded.first, strict=True):
        assert (number is None) == (not encode_words(tokenizer, [[word]])[0].ids)


def test_lower_case_keeps_the_offsets_of_the_text(tokenizer: Tokenizer) -> None:
    folded = Tokenizer.from_str(tokenizer.to_str())
    set_case(folded, lowercase=True)
    text = "The İstanbul CAT, E\u0301T"
    encoding = folded.encode(text, add_special_tokens=False)
    spans: dict[int, tuple[int, int]] = {}
    for word, (begin, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        assert word is not None
        first, _ = spans.setdefault(word, (begin, end))
        spans[word] = (first, end)
    assert [text[begin:end] for begin, end in spans.values()][:4] == ["The", "İstanbul", "CAT", ","]
    assert ids(folded, "THE CAT") == ids(tokenizer, "the cat")


def test_a_stored_tokenizer_does_the_same(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    again = load_tokenizer(path)
    assert ids(again, "the dog, [SEP] runs") == ids(tokenizer, "the dog, [SEP] runs")
    assert again.decode(ids(again, "the dog runs")) == "the dog runs"
