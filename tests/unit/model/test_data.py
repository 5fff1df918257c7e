"""Reading: bad lines are counted and named; nothing short of a useless file is fatal."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dragoman_model.data import DataError, Pair, read_pairs


def test_tsv_plain_and_gzip_give_the_same(tmp_path: Path) -> None:
    text = "a house\tein Haus\textra\r\n the cat \tdie Katze\n"
    (tmp_path / "plain.tsv").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(text.encode()))
    expected = [Pair("a house", "ein Haus"), Pair("the cat", "die Katze")]
    for name in ("plain.tsv", "packed.tsv.gz"):
        pairs, report = read_pairs(tmp_path / name)
        assert pairs == expected
        assert (report.lines, report.bad) == (2, 0)


def test_parallel_files(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "a.de.gz").write_bytes(gzip.compress(b"eins\nzwei\n"))
    assert read_pairs(tmp_path / "a.en", tmp_path / "a.de.gz")[0] == [Pair("one", "eins"), Pair("two", "zwei")]


def test_bad_lines_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    lines = [b"good\tgut", b"no tab", b"\xff\xfe\tgut", b"  \tleer", b"long\t" + b"x" * 30, b"again\t", b"seven\t"]
    path = tmp_path / "bad.tsv"
    path.write_bytes(b"\n".join(lines))
    pairs, report = read_pairs(path, max_characters=20)
    assert pairs == [Pair("good", "gut")]
    assert (report.lines, report.bad) == (7, 6)
    assert report.named == [
        "bad.tsv:2: one column, two expected",
        "bad.tsv:3: not UTF-8",
        "bad.tsv:4: an empty side",
        "bad.tsv:5: 30 characters, at most 20",
        "bad.tsv:6: an empty side",
    ]
    assert "1 of 7 lines used" in str(report)
    assert "and 1 more" in str(report)


def test_only_bad_lines_are_fatal(tmp_path: Path) -> None:
    path = tmp_path / "all-bad.tsv"
    path.write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no usable line.*0 of 2 lines used"):
        read_pairs(path)


def test_missing_damaged_and_unequal_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.tsv: No such file"):
        read_pairs(tmp_path / "absent.tsv")
    whole = gzip.compress(b"a\tb\n" * 1000)
    (tmp_path / "cut.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_pairs(tmp_path / "cut.tsv.gz")
    (tmp_path / "fake.tsv.gz").write_bytes(b"a\tb\n")
    with pytest.raises(DataError, match=r"fake\.tsv\.gz"):
        read_pairs(tmp_path / "fake.tsv.gz")
    (tmp_path / "two").write_text("1\n2\n", encoding="utf-8")
    (tmp_path / "three").write_text("1\n2\n3\n", encoding="utf-8")
    with pytest.raises(DataError, match="two ends after 2 lines"):
        read_pairs(tmp_path / "two", tmp_path / "three")
    with pytest.raises(DataError, match="not 3"):
        read_pairs(tmp_path / "two", tmp_path / "two", tmp_path / "two")
