"""How well an encoder labels texts and tags words: the figures that training, evaluation and certificates share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dragoman_model.classification_metrics import (
    OUT_OF_SCOPE,
    Floats,
    Numbers,
    accuracy,
    macro_f1,
    multi_label_f1,
    scope_scores,
)
from dragoman_model.config import EncoderConfig
from dragoman_model.data import DataError
from dragoman_model.encoder_corpus import TaggedText
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.tagged_sentences import TaggedSentence

UNKNOWN = -1
"""Stands for a tag that the model does not know, or that it does not say: never right."""


def likeliest(logits: Tensor) -> tuple[Numbers, Floats]:
    """The number and the probability (softmax) of each text's likeliest label; logits (texts, labels)."""
    probability, number = logits.double().softmax(dim=-1).max(dim=-1)
    return number.numpy(), probability.numpy()


def wanted_labels(texts: Sequence[LabelledText], config: EncoderConfig) -> Numbers:
    """(texts,): the number of each text's label, or OUT_OF_SCOPE. DataError for a label that the model lacks."""
    number = {label: i for i, label in enumerate(config.labels)}
    unknown = sorted({label for text in texts for label in text.labels} - set(number))
    if unknown:
        raise DataError(f"the model knows no labels {unknown}")
    return np.array([number[text.labels[0]] if text.labels else OUT_OF_SCOPE for text in texts])


def label_scores(logits: Tensor, texts: Sequence[LabelledText], config: EncoderConfig) -> dict[str, float]:
    """Figures by name, shares from 0 to 1, of logits (texts, labels).

    Accuracy and macro F1 are those of the texts in scope, none refused. With texts out of scope and a threshold:
    how many of them are refused (recall), how many of the refused are (precision), and the accuracy in scope when a
    refused text counts as wrong. With several labels a text, all of them must be right, at probability 0.5.
    """
    wanted = wanted_labels(texts, config)
    if config.multi_label:
        number = {label: i for i, label in enumerate(config.labels)}
        truth = np.zeros((len(texts), len(config.labels)), dtype=bool)
        for row, text in enumerate(texts):
            truth[row, [number[label] for label in text.labels]] = True
        said = (logits > 0).numpy()
        return {"accuracy": float((said == truth).all(axis=1).mean()), "macro F1": multi_label_f1(said, truth)}
    predicted, probability = likeliest(logits)
    inside = wanted != OUT_OF_SCOPE
    scores = {
        "accuracy": accuracy(predicted[inside], wanted[inside]),
        "macro F1": macro_f1(predicted[inside], wanted[inside], len(config.labels)),
    }
    if config.out_of_scope_threshold is not None and not inside.all():
        scope = scope_scores(probability, predicted, wanted, config.out_of_scope_threshold)
        scores["out-of-scope recall"] = scope.recall
        scores["out-of-scope precision"] = scope.precision
        scores["accuracy with refusals"] = scope.in_scope_accuracy
    return scores


def tag_scores(
    logits: Sequence[Tensor], texts: Sequence[TaggedText], sentences: Sequence[TaggedSentence], config: EncoderConfig
) -> dict[str, float]:
    """Accuracy over all words and macro F1 over tags; ``logits`` (tokens, tags) of each text.

    A word that the model was not shown, for want of room, counts as wrong.
    """
    number = {tag: i for i, tag in enumerate(config.tags)}
    predicted, wanted = [], []
    for scores, text, sentence in zip(logits, texts, sentences, strict=True):
        said = np.full(len(sentence.words), UNKNOWN)
        if text.positions:
            said[text.words] = scores[torch.tensor(text.positions)].argmax(dim=-1).numpy()
        predicted.append(said)
        wanted.append(np.array([number.get(tag, len(number)) for tag in sentence.tags]))
    said, truth = np.concatenate(predicted), np.concatenate(wanted)
    # What is not said gets a class of its own, beyond that of tags that the model does not know.
    said = np.where(said == UNKNOWN, len(number) + 1, said)
    known = truth < len(number)
    return {"accuracy": accuracy(said, truth), "macro F1": macro_f1(said[known], truth[known], len(number))}
