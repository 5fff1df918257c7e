"""Texts to measure an encoder on: read as its recipe reads its data, and laid out as its graph takes them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from dragoman_export.encoder_decisions import MeasuredText
from dragoman_export.sentences import spread
from dragoman_model.checkpoint import Provenance
from dragoman_model.config import EncoderConfig
from dragoman_model.data import DataError, read_lines
from dragoman_model.encoder_batching import EncoderText, make_text
from dragoman_model.encoder_tokenizer import encode_words
from dragoman_model.labelled_texts import JsonSplits, LabelFiles, LabelledSource, Split, TsvTexts
from dragoman_model.recipe import faults
from dragoman_model.tagged_sentences import read_tagged
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.pass_runtime import EncoderInput

UNKNOWN_TAG = -1
_STRIDE = 7919
"""A prime: the hidden token's place moves through the texts as if by chance, and is always the same."""


class TextSource(BaseModel):
    """How the files are read that a recipe names: what ``--data`` and ``--calibration`` name must look alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["classification", "tagging", "masked-language-model"]
    source: LabelledSource | None = None
    """Of classification."""


def text_source(provenance: Provenance) -> TextSource:
    """What the recipe of a trained model says. DataError where it has none, or one of another task."""
    try:
        recipe = tomllib.loads(provenance.recipe)
        task = recipe.get("task")
        return TextSource(task=task, source=recipe["data"]["source"] if task == "classification" else None)
    except ValidationError as error:
        raise DataError(f"the checkpoint's recipe does not say how its data are read:\n{faults(error)}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"the checkpoint's recipe does not say how its data are read: {error!r}") from error


@dataclass(frozen=True)
class TextSet:
    """The texts of some files, in their order."""

    name: str
    """The files' names with their folder's, for people."""
    sha256: str
    """Of the one file, or of the files' digests where there are several."""
    texts: list[MeasuredText]
    shortened: int
    """Texts that were cut to the longest that the bundle takes; the server would have refused them."""


class TextReader:
    """Reads files for one model; ``manifest`` gives its labels, tags, special ids and limits."""

    def __init__(self, source: TextSource, tokenizer: Tokenizer, manifest: Bundle) -> None:
        self._source, self._tokenizer, self._manifest = source, tokenizer, manifest
        dimensions, special = manifest.dimensions, manifest.special_ids
        self._config = EncoderConfig(
            vocabulary=dimensions.vocabulary,
            d_model=dimensions.d_model,
            num_heads=dimensions.num_heads,
            segments=dimensions.segments,
            cls_id=special.cls,
            sep_id=special.sep,
        )
        self._labels = {label: index for index, label in enumerate(manifest.classifier.labels)}
        self._tags = {tag: index for index, tag in enumerate(manifest.tagger.tags)}
        self._shortened = 0

    def read(self, paths: Sequence[Path], split: Split) -> TextSet:
        """The texts of a split, or all of files that hold just one. DataError for files that cannot be read so."""
        if not paths:
            raise DataError("no file was named")
        self._shortened = 0
        texts = [replace(text, line=line) for line, text in enumerate(self._texts(paths, split), start=1)]
        if not texts:
            raise DataError(f"{', '.join(map(str, paths))}: no text of the {split} split")
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        name = " + ".join(f"{path.resolve().parent.name}/{path.name}" for path in paths)
        return TextSet(name, sha256, texts, self._shortened)

    def encode(self, text: str, text_pair: str | None = None) -> EncoderInput:
        """A text as the encoder's input, cut to the longest that the bundle takes."""
        first = self._tokenizer.encode(text, add_special_tokens=False).ids
        second = None if text_pair is None else self._tokenizer.encode(text_pair, add_special_tokens=False).ids
        return self._input(first, second)

    def _input(self, first: Sequence[int], second: Sequence[int] | None = None) -> EncoderInput:
        most = self._manifest.limits.source_tokens
        made: EncoderText = make_text(self._config, first, second, most=most)
        specials = 2 if second is None else 3
        self._shortened += len(first) + len(second or ()) + specials > most
        return EncoderInput(made.ids, made.segments)

    def _texts(self, paths: Sequence[Path], split: Split) -> Iterator[MeasuredText]:
        match self._source.task:
            case "classification":
                yield from self._labelled(paths, split)
            case "tagging":
                for path in paths:
                    yield from self._tagged(path)
            case "masked-language-model":
                for path in paths:
                    lines = (line.decode("utf-8", "replace").strip() for line in read_lines(path))
                    yield from (MeasuredText(self.encode(line)) for line in lines if line)

    def _labelled(self, paths: Sequence[Path], split: Split) -> Iterator[MeasuredText]:
        assert self._source.source is not None
        for text in _placed(self._source.source, paths, split).read(Path(), split):
            unknown = [label for label in text.labels if label not in self._labels]
            if unknown:
                raise DataError(f"{paths[0]}: the model has no label {', '.join(map(repr, unknown))}")
            labels = tuple(self._labels[label] for label in text.labels)
            yield MeasuredText(self.encode(text.text, text.text_pair), labels=labels)

    def _tagged(self, path: Path) -> Iterator[MeasuredText]:
        sentences = read_tagged(path)
        for sentence, words in zip(sentences, encode_words(self._tokenizer, [s.words for s in sentences]), strict=True):
            text = self._input(words.ids)
            tags = [
                (first + 1, self._tags.get(tag, UNKNOWN_TAG))
                for first, tag in zip(words.first, sentence.tags, strict=True)
                # Behind [CLS], and not among what was cut.
                if first is not None and first + 1 < len(text.ids) - 1
            ]
            yield MeasuredText(text, tags=tuple(tags))


def _placed(source: LabelledSource, paths: Sequence[Path], split: Split) -> LabelledSource:
    """The source with these files in place of the recipe's."""
    if isinstance(source, LabelFiles):
        by_name = {path.name: path for path in paths}
        missing = [file.name for file in source.files.values() if file.name not in by_name]
        if missing or len(by_name) != len(source.files):
            raise DataError(f"{', '.join(map(str, paths))}: the model's data are {', '.join(map(str, source.files.values()))}")
        return source.model_copy(update={"files": {k: by_name[v.name].resolve() for k, v in source.files.items()}})
    if len(paths) > 1:
        raise DataError(f"{', '.join(map(str, paths))}: one file is expected")
    if isinstance(source, JsonSplits):
        return source.model_copy(update={"file": paths[0].resolve()})
    assert isinstance(source, TsvTexts)
    return source.model_copy(update={"files": {split: paths[0].resolve()}})


def some(texts: Sequence[MeasuredText], count: int) -> list[MeasuredText]:
    """At most ``count`` of the texts, evenly spaced."""
    return [texts[number] for number in spread(len(texts), count)]


def masked(texts: Sequence[MeasuredText], manifest: Bundle) -> list[MeasuredText]:
    """Each text with one of its tokens hidden behind [MASK]; those of special tokens alone are left out."""
    special = manifest.special_ids
    kept = {special.pad, special.cls, special.sep, special.mask} | ({special.unk} if special.HasField("unk") else set())
    found = []
    for number, text in enumerate(texts):
        ids, segments, _ = text.input
        places = [place for place, token in enumerate(ids) if token not in kept]
        if places:
            place = places[number * _STRIDE % len(places)]
            hidden = [special.mask if at == place else token for at, token in enumerate(ids)]
            found.append(MeasuredText(EncoderInput(hidden, segments, (place,)), line=text.line, filling=ids[place]))
    return found
