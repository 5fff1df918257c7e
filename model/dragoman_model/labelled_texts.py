"""Texts with labels, split into training, validation and test: JSON by split, TSV, or one file for each label."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dragoman_model.data import DataError, read_lines

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class LabelledText:
    """A text, the second one of a pair, and its labels: none if it is out of scope (or, with several, has none)."""

    text: str
    text_pair: str | None
    labels: tuple[str, ...]


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JsonSplits(_Source):
    """One JSON object: split -> [[text, label], ...], as in CLINC150."""

    format: Literal["json-splits"]
    file: Path
    splits: dict[Split, str] = {"train": "train", "valid": "val", "test": "test"}
    out_of_scope: dict[Split, str] = {}
    """Splits whose texts belong to no label, whatever label stands there."""

    @property
    def file_names(self) -> list[str]:
        """What the files are called that ``placed`` takes."""
        return [self.file.name]

    def placed(self, paths: Sequence[Path], split: Split) -> JsonSplits:
        """The same of another file, whatever the split."""
        return self.model_copy(update={"file": paths[0]})

    def read(self, root: Path, split: Split) -> Iterator[LabelledText]:
        """Texts in the order of the file. DataError if it is damaged or lacks the split."""
        path = root / self.file
        content = _read_json(path)
        for name, scope in ((self.splits.get(split), True), (self.out_of_scope.get(split), False)):
            if name is None:
                continue
            if not isinstance(content, dict) or name not in content:
                raise DataError(f"{path}: no split {name!r}")
            for number, entry in enumerate(content[name]):
                if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(x, str) for x in entry)):
                    raise DataError(f"{path}: {name}[{number}] is not [text, label]")
                yield LabelledText(entry[0].strip(), None, (entry[1],) if scope else ())


class TsvTexts(_Source):
    """A TSV file for each split: label TAB text, or label TAB text TAB second text. Several labels: with commas."""

    format: Literal["tsv"]
    files: dict[Split, Path]

    @property
    def file_names(self) -> list[str]:
        """What the files are called that ``placed`` takes: one, of any name."""
        return ["a TSV file"]

    def placed(self, paths: Sequence[Path], split: Split) -> TsvTexts:
        """The same of another file, which holds the one split."""
        return self.model_copy(update={"files": {split: paths[0]}})

    def read(self, root: Path, split: Split) -> Iterator[LabelledText]:
        """Texts in the order of the file. DataError names the first line that lacks a column."""
        if split not in self.files:
            return
        path = root / self.files[split]
        for number, line in enumerate(read_lines(path), start=1):
            columns = _decode(line, path, number).rstrip("\r\n").split("\t")
            if len(columns) not in (2, 3) or not columns[1].strip():
                raise DataError(f"{path}:{number}: label TAB text, or label TAB text TAB text, is expected")
            labels = tuple(label.strip() for label in columns[0].split(",") if label.strip())
            yield LabelledText(columns[1].strip(), columns[2].strip() if len(columns) == 3 else None, labels)


class LabelFiles(_Source):
    """A file for each label, one text a line; the split is drawn by a hash of the text: 80%, 10% and 10%."""

    format: Literal["label-files"]
    files: dict[str, Path] = Field(min_length=2)

    @property
    def file_names(self) -> list[str]:
        """What the files are called that ``placed`` takes."""
        return [file.name for file in self.files.values()]

    def placed(self, paths: Sequence[Path], split: Split) -> LabelFiles:
        """The same of other files, one for each label in the order of the labels, whatever the split."""
        return self.model_copy(update={"files": dict(zip(self.files, paths, strict=True))})

    def read(self, root: Path, split: Split) -> Iterator[LabelledText]:
        """Texts label by label, in the order of the files."""
        for label, file in self.files.items():
            for number, line in enumerate(read_lines(root / file), start=1):
                text = _decode(line, root / file, number).strip()
                if text and split_by_hash(text) == split:
                    yield LabelledText(text, None, (label,))


LabelledSource = Annotated[JsonSplits | TsvTexts | LabelFiles, Field(discriminator="format")]


def read_placed(source: LabelledSource, paths: Sequence[Path], split: Split) -> list[LabelledText]:
    """The texts of a split, with these files in place of the recipe's; DataError, also where there are none."""
    names = source.file_names
    if len(paths) != len(names):
        order = f", in the order {', '.join(names)}" if isinstance(source, LabelFiles) else ""
        raise DataError(f"{len(paths)} files, and {len(names)} are needed{order}")
    texts = list(source.placed([path.resolve() for path in paths], split).read(Path(), split))
    if not texts:
        raise DataError(f"{', '.join(map(str, paths))}: no text in the split {split}")
    return texts


def split_by_hash(text: str) -> Split:
    """The split of a text by its own SHA-256: the same on every machine, and for both copies of a repeated text."""
    tenth = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8]) % 10
    return "test" if tenth == 9 else "valid" if tenth == 8 else "train"


def _read_json(path: Path) -> Any:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return json.loads(raw)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8") from error
