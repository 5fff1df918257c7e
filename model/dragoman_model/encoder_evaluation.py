"""``dragoman evaluate`` of an encoder: its labels or tags on a split of data like those of its recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dragoman_model.checkpoint import TrainedModel
from dragoman_model.data import DataError
from dragoman_model.encoder_corpus import encode_labelled, encode_tagged
from dragoman_model.labelled_texts import LabelledSource, LabelledText, Split, read_placed
from dragoman_model.tagged_sentences import TaggedSentence, read_tagged
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.text_evaluation import label_scores, tag_scores
from dragoman_model.text_prediction import label_logits, tag_logits


@dataclass(frozen=True)
class EncoderEvaluation:
    """Figures by name, shares from 0 to 1, and over how much they were taken."""

    scores: dict[str, float]
    texts: int
    """Those without a label included."""
    targets: int
    """Texts with a label, or words."""


def evaluate_encoder(trained: TrainedModel[TextEncoder], paths: Sequence[Path], split: Split) -> EncoderEvaluation:
    """Label or tag the texts of files that take the place of the recipe's; ``split`` where a file holds several.

    A text beyond the model's ``max_length`` is cut. DataError if a file cannot be read as the recipe's are, if it has
    labels that the model does not know, or if the model neither labels nor tags.
    """
    model, most = trained.model, trained.model.config.max_length
    if model.config.labels:
        texts = read_labelled_files(trained.provenance.recipe, paths, split)
        encoded = encode_labelled(texts, trained.tokenizer, model.config, most)
        scores = label_scores(label_logits(model, encoded), texts, model.config)
        labelled = sum(bool(text.labels) for text in texts)
        return EncoderEvaluation(scores, len(texts), len(texts) if model.config.multi_label else labelled)
    if model.config.tags:
        sentences: list[TaggedSentence] = [sentence for path in paths for sentence in read_tagged(path)]
        tagged = encode_tagged(sentences, trained.tokenizer, model.config, most)
        scores = tag_scores(tag_logits(model, [t.text for t in tagged]), tagged, sentences, model.config)
        return EncoderEvaluation(scores, len(sentences), sum(len(s.words) for s in sentences))
    raise DataError("the model neither labels texts nor tags words: it was pre-trained only")


def read_labelled_files(recipe: str, paths: Sequence[Path], split: Split) -> list[LabelledText]:
    """The texts of a split, read as a classification recipe (its TOML) reads its own; DataError."""
    try:
        raw = tomllib.loads(recipe)["data"]["source"]
        source: LabelledSource = TypeAdapter(LabelledSource).validate_python(raw)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"the checkpoint's recipe does not say how its texts are read: {error}") from error
    return read_placed(source, paths, split)
