"""The texts of a language model's export: which share of a file is measured on, and which is calibrated on."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from dragoman_model.checkpoint import Provenance
from dragoman_model.data import DataError
from dragoman_model.text_files import DocumentKind, cut_documents, read_texts
from dragoman_model.tokenizer import encode_documents


class TextShares(BaseModel):
    """How files are cut. Each file is cut by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: float = Field(default=1.0, ge=0, le=1)
    """The share of a file's characters, from its beginning, that the model may have learnt from."""
    measured_from: float = Field(default=0.0, ge=0, le=1)
    """Where, as a share, the part begins that is measured: it goes on to the file's end."""
    documents: DocumentKind = "files"


def text_shares(provenance: Provenance) -> TextShares:
    """As the recipe says: measured is what is left for tests or, where nothing is, what was validated on.

    Of a model without a recipe, and so of files that it was not trained on, all is measured.
    """
    try:
        data: dict[str, Any] = tomllib.loads(provenance.recipe).get("data", {})
    except tomllib.TOMLDecodeError:
        data = {}
    if "files" not in data:
        return TextShares()
    trained = data.get("train_share", 0.9)
    decided = round(trained + data.get("valid_share", 0.1), 9)
    return TextShares(
        trained=trained,
        measured_from=decided if decided < 1 else trained,
        documents=data.get("documents", "files"),
    )


@dataclass(frozen=True)
class TokenizedText:
    """Parts of files as ids, and what they are called."""

    name: str
    sha256: str
    """Of the one whole file, or of the files' digests where there are several."""
    documents: list[list[int]]
    """Without bos; a paragraph ends with eos."""
    characters: int
    lines: int


def read_measured(paths: Sequence[Path], shares: TextShares, tokenizer: Tokenizer) -> TokenizedText:
    """The held-out part of each file. DataError where a file cannot be used, or nothing is held out."""
    return _read(paths, shares, tokenizer, begin=shares.measured_from, end=1.0)


def read_calibration(paths: Sequence[Path], shares: TextShares, tokenizer: Tokenizer) -> TokenizedText:
    """The part of each file that was trained on. DataError where a file cannot be used."""
    return _read(paths, shares, tokenizer, begin=0.0, end=shares.trained)


def _read(
    paths: Sequence[Path], shares: TextShares, tokenizer: Tokenizer, *, begin: float, end: float
) -> TokenizedText:
    if not paths:
        raise DataError("no file was named")
    parts = [text[int(len(text) * round(begin, 9)) : int(len(text) * round(end, 9))] for text in read_texts(paths)]
    texts = [document for part in parts for document in cut_documents(part, shares.documents)]
    documents = [ids.tolist() for ids in encode_documents(tokenizer, texts, ends=shares.documents == "paragraphs")]
    if sum(map(len, documents)) < 2:
        raise DataError(f"{', '.join(map(str, paths))}: no text from {begin:.0%} to {end:.0%} of it")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    part = "" if (begin, end) == (0.0, 1.0) else f", {begin:.0%} to {end:.0%}"
    return TokenizedText(
        name=" + ".join(f"{path.resolve().parent.name}/{path.name}" for path in paths) + part,
        sha256=sha256,
        documents=documents,
        characters=sum(map(len, parts)),
        lines=sum(len(part.splitlines()) for part in parts),
    )
