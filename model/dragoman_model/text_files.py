"""Running text from files, plain or gzip: read, split by shares, and cut into documents."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dragoman_model.data import DataError

DocumentKind = Literal["files", "paragraphs"]


@dataclass
class TextSplits:
    """Documents to train on, to decide by, and to measure on."""

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    valid_characters: int = 0
    """With the blank lines between paragraphs."""


def read_text(path: Path) -> str:
    """A UTF-8 file in NFC, its lines ended by a line feed. DataError if it is missing, damaged, not UTF-8 or empty."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    except gzip.BadGzipFile as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged") from error
    if not text.strip():
        raise DataError(f"{path}: there is no text in it")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def split_texts(texts: Iterable[str], *, train_share: float, valid_share: float, documents: DocumentKind) -> TextSplits:
    """Of each text the first ``train_share`` of its characters, the next ``valid_share``, and the rest.

    DataError if a split that has a share gets no text.
    """
    splits = TextSplits()
    for text in texts:
        # Rounded so that shares which make up 0.9 cut where 0.9 itself does.
        valid = int(len(text) * round(train_share, 9))
        test = int(len(text) * round(train_share + valid_share, 9))
        splits.valid_characters += test - valid
        splits.train += cut_documents(text[:valid], documents)
        splits.valid += cut_documents(text[valid:test], documents)
        splits.test += cut_documents(text[test:], documents)
    for name, found in (("train", splits.train), ("valid", splits.valid)):
        if not found:
            raise DataError(f"the text is too short: nothing is left for {name}")
    return splits


def cut_documents(text: str, kind: DocumentKind) -> list[str]:
    """The text as one document (none if it is empty), or its paragraphs, which blank lines separate."""
    if kind == "files":
        return [text] if text else []
    return [part for part in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.strip("\n")) if part.strip()]


def read_texts(paths: Sequence[Path]) -> list[str]:
    """Each file's text. DataError names every file that cannot be used."""
    texts, faults = [], []
    for path in paths:
        try:
            texts.append(read_text(path))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("; ".join(faults))
    return texts
