from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dragoman_export.sentences import Direction, parse_columns, parse_direction, read_parallel, spread
from dragoman_model.data import DataError
from tests.unit.export import tiny_model

EN_DE, DE_EN = Direction("en", "de"), Direction("de", "en")


def test_a_tsv_serves_both_directions(tmp_path: Path) -> None:
    path = tiny_model.write_pairs(tmp_path / "pairs.tsv")
    text = read_parallel([path], ("en", "de"))
    assert text.directions() == [EN_DE, DE_EN]
    assert text.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert text.name == f"{tmp_path.name}/pairs.tsv"
    forward, backward = text.sentences(EN_DE), text.sentences(DE_EN)
    assert forward.sources[2] == backward.references[2][0] == "My sister grows beans."
    assert len(text.limited(3).sentences(EN_DE).sources) == 3


def test_a_direction_that_the_data_lacks_is_refused(tmp_path: Path) -> None:
    text = read_parallel([tiny_model.write_pairs(tmp_path / "pairs.tsv")], ("en", "de"))
    with pytest.raises(DataError, match=r"en-fr.*en-de, de-en"):
        text.directions([EN_DE, Direction("en", "fr")])


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_several_references_are_parallel_files(tmp_path: Path) -> None:
    source = write(tmp_path / "s", "Good evening.", "Stop!")
    first, second = write(tmp_path / "a", "Guten Abend.", "Halt!"), write(tmp_path / "b", "N'Abend.", "Stopp!")
    text = read_parallel([source, first, second], ("en", "de"))
    assert text.directions() == [EN_DE]
    assert text.sentences(EN_DE).references == [["Guten Abend.", "N'Abend."], ["Halt!", "Stopp!"]]


def test_a_bad_line_would_shift_several_references(tmp_path: Path) -> None:
    source = write(tmp_path / "s", "Good evening.", "Stop!")
    first, second = write(tmp_path / "a", "Guten Abend.", "Halt!"), write(tmp_path / "b", "", "Stopp!")
    with pytest.raises(DataError, match="without a bad line"):
        read_parallel([source, first, second], ("en", "de"))


def test_equal_sources_can_be_grouped(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "Stop!\tHalt!", "Hello.\tHallo.", "Stop!\tStopp!")
    grouped = read_parallel([path], ("en", "de")).sentences(EN_DE, group_references=True)
    assert grouped.sources == ["Stop!", "Hello."]
    assert grouped.references == [["Halt!", "Stopp!"], ["Hallo."]]


@pytest.mark.parametrize("text", ["en", "en,", "en,en", "en,de,fr"])
def test_faulty_columns_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="columns"):
        parse_columns(text)


def test_columns_and_directions_are_read() -> None:
    assert parse_columns("en, de") == ("en", "de")
    assert parse_direction("de-en") == DE_EN
    with pytest.raises(DataError, match="direction"):
        parse_direction("deen")


def test_numbers_are_spread_evenly() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 10) == [0, 1, 2]
