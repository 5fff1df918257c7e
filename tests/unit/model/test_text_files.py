"""Texts from files: read whole, split where the shares say, cut at blank lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_model.data import DataError
from dragoman_model.text_files import cut_documents, read_texts, split_texts
from dragoman_model.tokenizer import encode_documents, train_text_tokenizer
from tests.unit.model.small_text import TEXT


def test_plain_and_gzip_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\n\u0065\u0301".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("one\ntwo\n\u00e9".encode()))
    assert read_texts([tmp_path / "a.txt", tmp_path / "b.txt.gz"]) == ["one\ntwo\né"] * 2


def test_every_unusable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_bytes(b" \n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(TEXT.encode())[:40])
    (tmp_path / "plain.gz").write_bytes(b"plain")
    names = ["latin.txt", "empty.txt", "cut.gz", "plain.gz", "absent.txt"]
    with pytest.raises(DataError) as caught:
        read_texts([tmp_path / name for name in names])
    for said in ("not UTF-8 at byte 3", "no text in it", "damaged", "Not a gzipped file", "No such file"):
        assert said in str(caught.value)
    assert all(name in str(caught.value) for name in names)


@given(st.text(alphabet="ab\n", min_size=100, max_size=400))
def test_splits_of_one_stream_join_to_the_text(text: str) -> None:
    splits = split_texts([text], train_share=0.87, valid_share=0.03, documents="files")
    assert "".join([*splits.train, *splits.valid, *splits.test]) == text
    assert len("".join(splits.test)) == len(text) - int(len(text) * 0.9)
    assert splits.valid_characters == len(splits.valid[0])


def test_blank_lines_separate_paragraphs() -> None:
    assert cut_documents("\n\na\nb\n\n \nc\n", "paragraphs") == ["a\nb", "c"]
    assert cut_documents("", "files") == cut_documents("\n \n", "paragraphs") == []


def test_a_text_without_room_for_validation_is_refused() -> None:
    with pytest.raises(DataError, match="nothing is left for valid"):
        split_texts(["short"], train_share=0.9, valid_share=0.05, documents="files")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60))
def test_what_is_encoded_is_decoded_to_the_character(text: str) -> None:
    normal = TOKENIZER.normalizer.normalize_str(text)
    assert TOKENIZER.decode(encode_documents(TOKENIZER, [text], ends=True)[0].tolist()) == normal


TOKENIZER = train_text_tokenizer([TEXT], 300)
