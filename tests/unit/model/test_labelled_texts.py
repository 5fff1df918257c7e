"""Readers of labelled texts, tagged sentences and plain sentences: every format, every fault named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dragoman_model.data import DataError
from dragoman_model.labelled_texts import JsonSplits, LabelFiles, LabelledText, Split, TsvTexts, split_by_hash
from dragoman_model.sentence_sources import SentenceSource, read_sentences
from dragoman_model.tagged_sentences import TaggedSentence, read_tagged

SPLITS: list[Split] = ["train", "valid", "test"]


def test_json_with_splits(tmp_path: Path) -> None:
    content = {
        "train": [["turn it on", "switch"]],
        "val": [["play a song ", "music"]],
        "oos_val": [["why is that", "oos"]],
    }
    (tmp_path / "all.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    source = JsonSplits(format="json-splits", file=Path("all.json.gz"), out_of_scope={"valid": "oos_val"})
    assert list(source.read(tmp_path, "train")) == [LabelledText("turn it on", None, ("switch",))]
    assert list(source.read(tmp_path, "valid")) == [
        LabelledText("play a song", None, ("music",)),
        LabelledText("why is that", None, ()),
    ]
    with pytest.raises(DataError, match="no split 'test'"):
        list(source.read(tmp_path, "test"))


def test_json_that_is_not_what_it_should_be(tmp_path: Path) -> None:
    source = JsonSplits(format="json-splits", file=Path("all.json"))
    with pytest.raises(DataError, match=r"all\.json"):
        list(source.read(tmp_path, "train"))
    (tmp_path / "all.json").write_text('{"train": [["a", "b"], ["c"]]}', encoding="utf-8")
    with pytest.raises(DataError, match=r"train\[1\] is not"):
        list(source.read(tmp_path, "train"))


def test_tsv_with_pairs_and_several_labels(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a, b\tone\n\ttwo\nc\tthree\tfour\n", encoding="utf-8")
    source = TsvTexts(format="tsv", files={"train": Path("train.tsv")})
    assert list(source.read(tmp_path, "train")) == [
        LabelledText("one", None, ("a", "b")),
        LabelledText("two", None, ()),
        LabelledText("three", "four", ("c",)),
    ]
    assert list(source.read(tmp_path, "test")) == []
    (tmp_path / "train.tsv").write_text("a\tone\nb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.tsv:2"):
        list(source.read(tmp_path, "train"))


def test_files_by_label_are_split_by_a_hash_of_the_text(tmp_path: Path) -> None:
    good = [f"a good film number {i}" for i in range(300)]
    bad = [f"a bad film number {i}" for i in range(300)]
    (tmp_path / "good").write_text("\n".join([*good, good[0]]), encoding="utf-8")
    (tmp_path / "bad").write_text("\n".join(bad), encoding="utf-8")
    source = LabelFiles(format="label-files", files={"good": Path("good"), "bad": Path("bad")})
    read = {split: list(source.read(tmp_path, split)) for split in SPLITS}
    assert sorted(t.text for texts in read.values() for t in texts) == sorted([*good, *bad, good[0]])
    assert all(split_by_hash(t.text) == split for split, texts in read.items() for t in texts)
    assert {t.labels for t in read["train"]} == {("good",), ("bad",)}
    assert [len(read[split]) / 601 for split in SPLITS] == [pytest.approx(share, abs=0.04) for share in (0.8, 0.1, 0.1)]
    assert split_by_hash("a good film number 0") == "train"


def test_tagged_sentences(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("we\tPRON\nsing\tVERB\n\n\nstop\tVERB", encoding="utf-8")
    assert read_tagged(tmp_path / "a.tsv") == [
        TaggedSentence(("we", "sing"), ("PRON", "VERB")),
        TaggedSentence(("stop",), ("VERB",)),
    ]
    (tmp_path / "a.tsv").write_text("we\tPRON\nsing\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.tsv:2: word TAB tag"):
        read_tagged(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no sentence"):
        read_tagged(tmp_path / "a.tsv")


def test_plain_sentences_come_once_unless_they_are_in_order(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("hello\thallo\nbye\ttschüss\nhello\tservus\n", encoding="utf-8")
    (tmp_path / "story.txt").write_text("she came.\nshe saw.\n\nhello\nshe came.\n", encoding="utf-8")
    sources = [
        SentenceSource(file=Path("pairs.tsv"), column=0),
        SentenceSource(file=Path("story.txt"), ordered=True),
    ]
    sentences = read_sentences(tmp_path, sources)
    assert [s.text for s in sentences] == ["hello", "bye", "she came.", "she saw.", "hello", "she came."]
    documents = [s.document for s in sentences]
    assert len(set(documents[:2])) == 2
    assert documents[2] == documents[3] != documents[4] == documents[5]
    with pytest.raises(DataError, match="no column 2"):
        read_sentences(tmp_path, [SentenceSource(file=Path("pairs.tsv"), column=2)])
    with pytest.raises(ValueError, match="one of file"):
        SentenceSource()
