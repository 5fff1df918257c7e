"""The vocabulary: any text comes back, tags are single ids, and no text can speak a special token."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dragoman_model.tokenizer import encode_texts, language_tag, load_tokenizer, token_id, train_tokenizer
from tests.unit.model.small import PAIRS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((text for pair in PAIRS * 3 for text in pair), 350, ["de", "en"])


def test_special_ids_stand_first(tokenizer: Tokenizer) -> None:
    assert [token_id(tokenizer, t) for t in ("<pad>", "<unk>", "<s>", "</s>", "<2de>", "<2en>")] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="no token <2fr>"):
        token_id(tokenizer, language_tag("fr"))


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60))
def test_any_text_comes_back_in_normal_form(tokenizer: Tokenizer, text: str) -> None:
    expected = unicodedata.normalize("NFC", text)
    ids = next(encode_texts(tokenizer, [text]))
    assert tokenizer.decode(ids).lstrip(" ") == expected.lstrip(" ")


@pytest.mark.parametrize("text", ["</s>", "<2de> hello", "a <pad> b", "<s><unk>"])
def test_special_tokens_in_a_text_are_plain_text(tokenizer: Tokenizer, text: str) -> None:
    ids = next(encode_texts(tokenizer, [text]))
    assert min(ids) > 5
    assert tokenizer.decode(ids) == text


def test_a_saved_vocabulary_encodes_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    texts = [text for pair in PAIRS for text in pair] + ["</s>"]
    assert list(encode_texts(loaded, texts, batch=3)) == list(encode_texts(tokenizer, texts))


def test_a_language_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each may be named once"):
        train_tokenizer(["a"], 300, ["de", "de"])
