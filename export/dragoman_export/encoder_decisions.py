"""What an encoder decides about a text, whether two decide alike, and how often the decisions are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dragoman_model.classification_metrics import OUT_OF_SCOPE, accuracy, macro_f1, multi_label_f1, scope_scores
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput

ACCURACY, MACRO_F1 = "accuracy", "macro F1"
TAG_ACCURACY, TAG_MACRO_F1 = "tag accuracy", "tag macro F1"
SCOPE_ACCURACY, SCOPE_RECALL, SCOPE_PRECISION = "in-scope accuracy", "out-of-scope recall", "out-of-scope precision"
MASK_ACCURACY = "masked token accuracy"

_EVEN = 0.5
"""Of several labels at a time, each that is likelier than this is given."""


@dataclass(frozen=True)
class MeasuredText:
    """A text as the encoder's input, and what is right about it; empty or None where nothing is known."""

    input: EncoderInput
    line: int = 0
    """Of the test set's texts, from 1; 0: of none."""
    labels: tuple[int, ...] | None = None
    """Indices of its labels; none at all: it is out of scope (or, of several labels at a time, has none)."""
    tags: tuple[tuple[int, int], ...] = ()
    """Place of a word's first token, and the index of the word's tag: -1 for one that the model does not know."""
    filling: int | None = None
    """Which token stood at the one masked place."""


@dataclass(frozen=True)
class Decision:
    """What a model makes of a text."""

    labels: tuple[int, ...] = ()
    """The likeliest label, or all that are given; none where the text is refused as out of scope."""
    tags: tuple[int, ...] = ()
    filling: int | None = None


@dataclass(frozen=True)
class Judge:
    """How logits become decisions: the manifest's classifier says it, as the server reads it."""

    manifest: Bundle

    def decide(self, text: MeasuredText, output: EncoderOutput) -> Decision:
        """The decisions on what the text tells: its label where it has one, and so on."""
        labels: tuple[int, ...] = ()
        if text.labels is not None and output.label_logits is not None:
            labels = self._labels(output.label_logits)
        tags = () if output.tag_logits is None else tuple(int(output.tag_logits[at].argmax()) for at, _ in text.tags)
        filling = None if text.filling is None or output.mask_logits is None else int(output.mask_logits[0].argmax())
        return Decision(labels, tags, filling)

    def _labels(self, logits: npt.NDArray[np.float32]) -> tuple[int, ...]:
        classifier = self.manifest.classifier
        if classifier.multi_label:
            return tuple(np.flatnonzero(probabilities(logits, several=True) > _EVEN).tolist())
        likeliest = probabilities(logits, several=False).max()
        refused = classifier.HasField("out_of_scope_threshold") and likeliest < classifier.out_of_scope_threshold
        return () if refused else (int(logits.argmax()),)

    def metrics(self, texts: Sequence[MeasuredText], outputs: Sequence[EncoderOutput]) -> dict[str, float]:
        """Every figure that the texts allow, higher is better: shares from 0 to 1."""
        found: dict[str, float] = {}
        labelled = [(text, output) for text, output in zip(texts, outputs, strict=True) if text.labels is not None]
        if labelled and self.manifest.classifier.labels:
            found |= self._several(labelled) if self.manifest.classifier.multi_label else self._one(labelled)
        pairs = [
            (tag, int(output.tag_logits[at].argmax()))
            for text, output in zip(texts, outputs, strict=True)
            if output.tag_logits is not None
            for at, tag in text.tags
        ]
        if pairs:
            wanted, predicted = np.array(pairs, np.intp).T
            known = wanted >= 0
            found[TAG_ACCURACY] = accuracy(predicted, wanted)
            found[TAG_MACRO_F1] = macro_f1(predicted[known], wanted[known], len(self.manifest.tagger.tags))
        masked = [
            text.filling == int(output.mask_logits[0].argmax())
            for text, output in zip(texts, outputs, strict=True)
            if text.filling is not None and output.mask_logits is not None
        ]
        if masked:
            found[MASK_ACCURACY] = float(np.mean(masked))
        return found

    def _one(self, labelled: Sequence[tuple[MeasuredText, EncoderOutput]]) -> dict[str, float]:
        classifier = self.manifest.classifier
        logits = np.array([output.label_logits for _, output in labelled])  # (texts, labels)
        wanted = np.array([text.labels[0] if text.labels else OUT_OF_SCOPE for text, _ in labelled], np.intp)
        predicted, likeliest = logits.argmax(axis=-1), probabilities(logits, several=False).max(axis=-1)
        inside = wanted != OUT_OF_SCOPE
        found: dict[str, float] = {}
        if inside.any():
            found[ACCURACY] = accuracy(predicted[inside], wanted[inside])
            found[MACRO_F1] = macro_f1(predicted[inside], wanted[inside], len(classifier.labels))
        if classifier.HasField("out_of_scope_threshold") and inside.any() and not inside.all():
            scores = scope_scores(likeliest, predicted, wanted, classifier.out_of_scope_threshold)
            found[SCOPE_ACCURACY] = scores.in_scope_accuracy
            found[SCOPE_RECALL], found[SCOPE_PRECISION] = scores.recall, scores.precision
        return found

    def _several(self, labelled: Sequence[tuple[MeasuredText, EncoderOutput]]) -> dict[str, float]:
        logits = np.array([output.label_logits for _, output in labelled])  # (texts, labels)
        wanted = np.zeros(logits.shape, np.bool_)
        for row, (text, _) in enumerate(labelled):
            wanted[row, list(text.labels or ())] = True
        return {MACRO_F1: multi_label_f1(probabilities(logits, several=True) > _EVEN, wanted)}


def probabilities(logits: npt.NDArray[np.float32], *, several: bool) -> npt.NDArray[np.float64]:
    """Of each label, the last axis: by itself where there may be several (sigmoid), else together 1 (softmax)."""
    wide = logits.astype(np.float64)
    if several:
        both: npt.NDArray[np.float64] = 1 / (1 + np.exp(-wide))
        return both
    exponentials = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def smallest_gap(text: MeasuredText, output: EncoderOutput) -> float:
    """How near the closest of the decisions on a text is to a tie: its best logit less its second best."""
    gaps = []
    if text.labels is not None and output.label_logits is not None:
        gaps.append(_gap(output.label_logits))
    if output.tag_logits is not None:
        gaps += [_gap(output.tag_logits[at]) for at, _ in text.tags]
    if text.filling is not None and output.mask_logits is not None:
        gaps.append(_gap(output.mask_logits[0]))
    return min(gaps, default=0.0)


def _gap(logits: npt.NDArray[np.float32]) -> float:
    if logits.size < 2:
        return float(np.inf)
    second, best = np.partition(logits, -2)[-2:].tolist()
    return float(best - second)
