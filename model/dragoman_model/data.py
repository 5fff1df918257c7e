"""Sentence pairs from TSV or parallel files, plain or gzip; bad lines are counted and named, and seldom fatal."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_NAMED = 5
"""Bad lines that a report spells out; the others are only counted."""


class DataError(Exception):
    """A file is missing, unreadable, or holds nothing that can be used."""


@dataclass
class ReadReport:
    """What was read from where, and which lines were left out."""

    files: tuple[Path, ...]
    lines: int = 0
    bad: int = 0
    named: list[str] = field(default_factory=list)

    def reject(self, line: int, reason: str) -> None:
        """Count a bad line; the first few are named."""
        self.bad += 1
        if len(self.named) < _NAMED:
            self.named.append(f"{self.files[0].name}:{line}: {reason}")

    def __str__(self) -> str:
        text = f"{' + '.join(str(f) for f in self.files)}: {self.lines - self.bad} of {self.lines} lines used"
        if self.bad:
            more = f" and {self.bad - len(self.named)} more" if self.bad > len(self.named) else ""
            text += f"; left out {'; '.join(self.named)}{more}"
        return text


@dataclass(frozen=True)
class Pair:
    """A sentence in both languages, in the order of the file's columns (or of the two files)."""

    first: str
    second: str


def read_pairs(*paths: Path, max_characters: int = 2000) -> tuple[list[Pair], ReadReport]:
    """Pairs from one TSV file (two columns; more are ignored) or from two parallel files.

    A line is bad if it is not UTF-8, lacks a column, has an empty side, or a side above ``max_characters``.
    DataError if a file is missing or damaged, if parallel files differ in length, or if no line is good.
    """
    if len(paths) not in (1, 2):
        raise DataError(f"one TSV file or two parallel files, not {len(paths)}")
    report = ReadReport(files=tuple(paths))
    pairs = []
    for sides in _split(paths, report):
        report.lines += 1
        pair = _check(sides, report, max_characters)
        if pair is not None:
            pairs.append(pair)
    if not pairs:
        raise DataError(f"no usable line: {report}")
    return pairs, report


def _split(paths: tuple[Path, ...], report: ReadReport) -> Iterator[list[bytes]]:
    if len(paths) == 1:
        for line in read_lines(paths[0]):
            yield line.rstrip(b"\r\n").split(b"\t")
        return
    for first, second in itertools.zip_longest(read_lines(paths[0]), read_lines(paths[1])):
        if first is None or second is None:
            shorter = paths[0] if first is None else paths[1]
            raise DataError(f"{shorter} ends after {report.lines} lines, the other file goes on: they are not parallel")
        yield [first.rstrip(b"\r\n"), second.rstrip(b"\r\n")]


def _check(sides: list[bytes], report: ReadReport, max_characters: int) -> Pair | None:
    reason = None
    if len(sides) < 2:
        reason = "one column, two expected"
    else:
        try:
            first, second = (side.decode("utf-8").strip() for side in sides[:2])
        except UnicodeDecodeError:
            reason = "not UTF-8"
        else:
            if not first or not second:
                reason = "an empty side"
            elif max(len(first), len(second)) > max_characters:
                reason = f"{max(len(first), len(second))} characters, at most {max_characters}"
            else:
                return Pair(first, second)
    report.reject(report.lines, reason)
    return None


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, plain or gzip, with their ends. DataError if it is missing or damaged."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as unpacked:
                yield from unpacked
        else:
            with path.open("rb") as stream:
                yield from stream
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged") from error
