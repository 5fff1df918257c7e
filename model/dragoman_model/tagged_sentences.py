"""Sentences with a tag for every word: word TAB tag, and a blank line between sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dragoman_model.data import DataError, read_lines


@dataclass(frozen=True)
class TaggedSentence:
    """Words and their tags, as many of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_tagged(path: Path) -> list[TaggedSentence]:
    """All sentences of a file, plain or gzip. DataError names the first line that is not word TAB tag."""
    sentences: list[TaggedSentence] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: not UTF-8") from error
        if not text.strip():
            if words:
                sentences.append(TaggedSentence(tuple(words), tuple(tags)))
            words, tags = [], []
            continue
        columns = text.split("\t")
        if len(columns) != 2 or not columns[0].strip() or not columns[1].strip():
            raise DataError(f"{path}:{number}: word TAB tag is expected")
        words.append(columns[0].strip())
        tags.append(columns[1].strip())
    if words:
        sentences.append(TaggedSentence(tuple(words), tuple(tags)))
    if not sentences:
        raise DataError(f"{path}: no sentence")
    return sentences
