"""Sentence pairs to measure on: which file, which languages, and each direction's sources and references."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dragoman_model.checkpoint import Provenance
from dragoman_model.data import DataError, Pair, read_pairs


class Direction(NamedTuple):
    """From one language into another, by their codes."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


class Scored(NamedTuple):
    """The sentences of one direction, each with its references."""

    sources: list[str]
    references: list[list[str]]


@dataclass(frozen=True)
class ParallelText:
    """Pairs of sentences in two languages, and the hash of the files that they come from."""

    name: str
    """The files' names with their folder's, for people."""
    sha256: str
    """Of the one file, or of the files' digests where there are several."""
    columns: tuple[str, str]
    """Language codes of the first and second column (or file)."""
    pairs: list[Pair]
    """Of the first reference."""
    more_references: tuple[list[str], ...] = ()
    """Of further files, each parallel to ``pairs``."""
    report: str = ""
    """What was left out of the files."""

    def directions(self, wanted: Sequence[Direction] | None = None) -> list[Direction]:
        """What can be scored: both ways, or one where further references tell the target's side."""
        first, second = self.columns
        possible = [Direction(first, second)] + ([] if self.more_references else [Direction(second, first)])
        if wanted is None:
            return possible
        missing = [str(direction) for direction in wanted if direction not in possible]
        if missing:
            offered = ", ".join(map(str, possible))
            raise DataError(f"{self.name} has no sentences for {', '.join(missing)}: it offers {offered}")
        return list(wanted)

    def sentences(self, direction: Direction, *, group_references: bool = False) -> Scored:
        """Sources and references; ``group_references`` makes one sentence of all pairs whose sources are equal."""
        forward = direction == self.columns
        sources = [pair.first if forward else pair.second for pair in self.pairs]
        references = [[pair.second if forward else pair.first] for pair in self.pairs]
        for more in self.more_references:
            for known, reference in zip(references, more, strict=True):
                known.append(reference)
        if not group_references:
            return Scored(sources, references)
        grouped: dict[str, list[str]] = {}
        for source, choices in zip(sources, references, strict=True):
            grouped.setdefault(source, []).extend(choices)
        return Scored(list(grouped), list(grouped.values()))

    def limited(self, count: int | None) -> ParallelText:
        """The first ``count`` pairs; None: all."""
        more = tuple(references[:count] for references in self.more_references)
        return ParallelText(self.name, self.sha256, self.columns, self.pairs[:count], more, self.report)


def read_parallel(paths: Sequence[Path], columns: tuple[str, str]) -> ParallelText:
    """Read one TSV file, two parallel files, or a source file with several files of references.

    DataError names a missing or unusable file. With several references no line may be bad, or they would shift.
    """
    if not paths:
        raise DataError("no file was named")
    pairs, report = read_pairs(*paths[:2])
    more: list[list[str]] = []
    for path in paths[2:]:
        others, other_report = read_pairs(paths[0], path)
        if report.bad or other_report.bad:
            raise DataError(f"several references need files without a bad line: {other_report}")
        more.append([pair.second for pair in others])
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    name = " + ".join(f"{path.resolve().parent.name}/{path.name}" for path in paths)
    return ParallelText(name, sha256, columns, pairs, tuple(more), str(report) if report.bad else "")


def parse_columns(text: str) -> tuple[str, str]:
    """ "en,de" -> ("en", "de"). DataError for anything else."""
    codes = [code.strip() for code in text.split(",")]
    if len(codes) != 2 or not all(codes) or codes[0] == codes[1]:
        raise DataError(f"columns = {text!r}: two different language codes, such as en,de")
    return codes[0], codes[1]


def parse_direction(text: str) -> Direction:
    """ "en-de" -> Direction("en", "de"). DataError for anything else."""
    source, dash, target = text.partition("-")
    if not (source and dash and target):
        raise DataError(f"direction = {text!r}: source and target language, such as en-de")
    return Direction(source, target)


@dataclass(frozen=True)
class RecipeFacts:
    """What an export needs of the recipe that a checkpoint carries; None where it does not say."""

    name: str
    columns: tuple[str, str] | None
    max_tokens: int | None
    test_files: tuple[str, ...]


def recipe_facts(provenance: Provenance) -> RecipeFacts:
    """Read the recipe's text; a model that was trained without one has none of these facts."""
    try:
        recipe = tomllib.loads(provenance.recipe)
    except tomllib.TOMLDecodeError:
        recipe = {}
    data = recipe.get("data", {})
    columns = data.get("columns")
    return RecipeFacts(
        name=recipe.get("name", ""),
        columns=(columns[0], columns[1]) if columns else None,
        max_tokens=recipe.get("training", {}).get("max_tokens"),
        test_files=tuple(Path(path).name for path in data.get("test", ())),
    )


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers below ``count``, evenly spaced."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]
