"""Texts to measure an encoder on: read as its recipe reads its data, and laid out as its graph takes them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from dragoman_export.encoder_measured import MeasuredLabels, MeasuredMasks, MeasuredTags, MeasuredTexts
from dragoman_model.checkpoint import Provenance
from dragoman_model.config import EncoderConfig
from dragoman_model.data import DataError
from dragoman_model.encoder_batching import EncoderText, make_text
from dragoman_model.encoder_corpus import encode_labelled, encode_tagged
from dragoman_model.labelled_texts import LabelledSource, Split, read_placed
from dragoman_model.recipe import faults
from dragoman_model.sentence_sources import SentenceSource, read_sentences
from dragoman_model.tagged_sentences import read_tagged
from dragoman_model.tokenizer import encode_texts
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.pass_runtime import EncoderInput

_MASK = 4
"""Where a bundle does not say: it fills no masks, so nothing depends on it."""
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
    says_not = "the checkpoint's recipe does not say how its data are read"
    try:
        recipe = tomllib.loads(provenance.recipe)
        source = {"source": recipe["data"]["source"]} if recipe["task"] == "classification" else {}
        return TextSource.model_validate({"task": recipe["task"], **source})
    except ValidationError as error:
        raise DataError(f"{says_not}:\n{faults(error)}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{says_not}: {error!r}") from error


def encoder_config(manifest: Bundle) -> EncoderConfig:
    """The config of the model in a bundle, as far as texts and decisions depend on it."""
    dimensions, special, classifier = manifest.dimensions, manifest.special_ids, manifest.classifier
    refuses = classifier.HasField("out_of_scope_threshold")
    return EncoderConfig(
        vocabulary=dimensions.vocabulary,
        d_model=dimensions.d_model,
        num_heads=dimensions.num_heads,
        segments=2 if dimensions.segments else 0,
        max_length=manifest.limits.source_tokens,
        labels=list(classifier.labels),
        multi_label=classifier.multi_label,
        pairs=classifier.pairs,
        out_of_scope_threshold=classifier.out_of_scope_threshold if refuses else None,
        tags=list(manifest.tagger.tags),
        bio=manifest.tagger.bio,
        cls_id=special.cls,
        sep_id=special.sep,
        mask_id=special.mask if special.HasField("mask") else _MASK,
    )


@dataclass(frozen=True)
class TextSet:
    """The texts of some files, in their order."""

    name: str
    """The files' names with their folder's, for people."""
    sha256: str
    """Of the one file, or of the files' digests where there are several."""
    texts: MeasuredTexts
    shortened: int
    """Texts that were cut to the longest that the bundle takes, where the server refuses them."""


class TextReader:
    """Reads files for one model; ``manifest`` gives its labels, tags, special ids and limits."""

    def __init__(self, source: TextSource, tokenizer: Tokenizer, manifest: Bundle) -> None:
        self._source, self._tokenizer, self._config = source, tokenizer, encoder_config(manifest)
        self._most = manifest.limits.source_tokens

    def read(self, paths: Sequence[Path], split: Split) -> TextSet:
        """The texts of a split, or all of files that hold just one. DataError for files that cannot be read so."""
        if not paths:
            raise DataError("no file was named")
        texts, lengths = self._texts([path.resolve() for path in paths], split)
        if not texts.inputs:
            raise DataError(f"{_named(paths)}: no text of the split {split!r}")
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        name = " + ".join(f"{path.resolve().parent.name}/{path.name}" for path in paths)
        shortened = sum(whole > len(text.ids) for whole, text in zip(lengths, texts.inputs, strict=True))
        return TextSet(name, sha256, texts, shortened)

    def encode(self, texts: Sequence[str]) -> list[EncoderInput]:
        """Plain texts as the encoder's input."""
        found = encode_texts(self._tokenizer, list(texts))
        return [_input(make_text(self._config, ids, most=self._most)) for ids in found]

    def hide(self, inputs: Sequence[EncoderInput]) -> MeasuredMasks:
        """The texts with one token hidden each; those of special tokens alone are left out."""
        kept = set(self._config.special_ids)
        masked, hidden = [], []
        for number, (ids, segments, _) in enumerate(inputs):
            places = [place for place, token in enumerate(ids) if token not in kept]
            if places:
                place = places[number * _STRIDE % len(places)]
                seen = [self._config.mask_id if at == place else token for at, token in enumerate(ids)]
                masked.append(EncoderInput(seen, segments, (place,)))
                hidden.append(ids[place])
        return MeasuredMasks(self._config, masked, hidden)

    def _texts(self, paths: Sequence[Path], split: Split) -> tuple[MeasuredTexts, list[int]]:
        """The texts, and how long each would be uncut."""
        config, unlimited = self._config, 1 << 30
        if self._source.task == "classification":
            assert self._source.source is not None
            labelled = read_placed(self._source.source, paths, split)
            unknown = sorted({label for text in labelled for label in text.labels} - set(config.labels))
            if unknown:
                raise DataError(f"{_named(paths)}: the model knows no labels {unknown}")
            cut, whole = (encode_labelled(labelled, self._tokenizer, config, most) for most in (self._most, unlimited))
            return MeasuredLabels(config, [_input(text) for text in cut], labelled), [len(text.ids) for text in whole]
        if self._source.task == "tagging":
            sentences = [sentence for path in paths for sentence in read_tagged(path)]
            tagged, uncut = (
                encode_tagged(sentences, self._tokenizer, config, most) for most in (self._most, unlimited)
            )
            inputs = [_input(text.text) for text in tagged]
            return MeasuredTags(config, inputs, sentences, tagged), [len(text.text.ids) for text in uncut]
        sources = [SentenceSource(file=path) for path in paths]
        plain = [sentence.text for sentence in read_sentences(Path(), sources)]
        masks = self.hide(self.encode(plain))
        return masks, [len(text.ids) for text in masks.inputs]


def _input(text: EncoderText) -> EncoderInput:
    return EncoderInput(text.ids, text.segments)


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
