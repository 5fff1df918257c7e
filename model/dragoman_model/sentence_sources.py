"""Sentences without labels for masked language modelling, from text files, TSV columns and labelled texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dragoman_model.data import DataError, read_lines
from dragoman_model.labelled_texts import LabelledSource, Split
from dragoman_model.tagged_sentences import read_tagged


class SentenceSource(BaseModel):
    """One file of one sentence a line (or of one in each line's column), or labelled texts, or tagged sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = None
    column: int | None = Field(default=None, ge=0)
    """Of a TSV file, counted from 0; None: the whole line."""
    ordered: bool = False
    """Each line goes on where the one before ended; an empty line ends a document."""
    labelled: LabelledSource | None = None
    tagged: Path | None = None
    split: Split = "train"
    """Of labelled texts."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.file, self.labelled, self.tagged)) != 1:
            raise ValueError("one of file, labelled and tagged is needed")
        if self.file is None and (self.ordered or self.column is not None):
            raise ValueError("column and ordered belong to file")
        return self


@dataclass(frozen=True)
class Sentence:
    """A sentence and the number of its document: those of one document follow one another."""

    text: str
    document: int


def read_sentences(root: Path, sources: list[SentenceSource]) -> list[Sentence]:
    """All sentences, each text once unless its file is ordered. DataError if a file is missing or nothing is found."""
    sentences: list[Sentence] = []
    seen: set[str] = set()
    document = 0
    for source in sources:
        for text in _texts(root, source):
            if source.ordered:
                document += not text
            else:
                document += 1
            if text and (source.ordered or text not in seen):
                seen.add(text)
                sentences.append(Sentence(text, document))
        document += 1
    if not sentences:
        raise DataError(f"{root}: no sentence in {len(sources)} sources")
    return sentences


def _texts(root: Path, source: SentenceSource) -> Iterator[str]:
    if source.labelled is not None:
        for labelled in source.labelled.read(root, source.split):
            yield from filter(None, (labelled.text, labelled.text_pair))
        return
    if source.tagged is not None:
        for sentence in read_tagged(root / source.tagged):
            yield " ".join(sentence.words)
        return
    assert source.file is not None
    for number, line in enumerate(read_lines(root / source.file), start=1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{root / source.file}:{number}: not UTF-8") from error
        if source.column is not None and text:
            columns = text.split("\t")
            if source.column >= len(columns):
                raise DataError(f"{root / source.file}:{number}: no column {source.column}")
            text = columns[source.column]
        yield text.strip()
