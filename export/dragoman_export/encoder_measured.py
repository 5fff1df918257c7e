"""Texts that an encoder is measured on: what it decides about each of them, and how often that is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dragoman_model.config import EncoderConfig
from dragoman_model.encoder_corpus import TaggedText
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.tagged_sentences import TaggedSentence
from dragoman_model.text_evaluation import label_scores, likeliest, tag_scores
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, Floats

REFUSED = -1
"""Stands for the label of a text that is refused as out of scope."""
MASK_ACCURACY = "masked token accuracy"


@dataclass(frozen=True)
class MeasuredTexts(ABC):
    """Texts in the order of their file, as the encoder's input."""

    config: EncoderConfig
    inputs: list[EncoderInput]

    @property
    @abstractmethod
    def targets(self) -> int:
        """What is counted: texts with a label, words, or hidden tokens."""

    @abstractmethod
    def scores(self, outputs: Sequence[EncoderOutput]) -> dict[str, float]:
        """Figures by name, higher is better: shares from 0 to 1."""

    @abstractmethod
    def decision(self, number: int, output: EncoderOutput) -> tuple[int, ...]:
        """What the output says of text ``number``: its labels, its words' tags, or what was hidden."""

    @abstractmethod
    def logits(self, number: int, output: EncoderOutput) -> Floats:
        """What the decisions are made by (decisions, choices)."""

    def gap(self, number: int, output: EncoderOutput) -> float:
        """How near the closest decision is to a tie: its best logit less its second best."""
        logits = self.logits(number, output)
        if logits.shape[0] == 0 or logits.shape[1] < 2:
            return float("inf")
        best_two = np.partition(logits, -2, axis=-1)[:, -2:]
        return float((best_two[:, 1] - best_two[:, 0]).min())


@dataclass(frozen=True)
class MeasuredLabels(MeasuredTexts):
    """Texts with labels."""

    texts: list[LabelledText]

    @property
    def targets(self) -> int:
        """Texts with a label; of several labels at a time, all texts."""
        return len(self.texts) if self.config.multi_label else sum(bool(text.labels) for text in self.texts)

    def scores(self, outputs: Sequence[EncoderOutput]) -> dict[str, float]:
        """Of labels, and of what is refused as out of scope."""
        logits = np.concatenate([self.logits(number, output) for number, output in enumerate(outputs)])
        return label_scores(torch.from_numpy(logits), self.texts, self.config)

    def decision(self, number: int, output: EncoderOutput) -> tuple[int, ...]:
        """The likeliest label, or REFUSED; of several at a time those that are likelier than not."""
        logits = self.logits(number, output)
        if self.config.multi_label:
            return tuple(np.flatnonzero(logits[0] > 0).tolist())
        label, probability = likeliest(torch.from_numpy(logits))
        threshold = self.config.out_of_scope_threshold
        return (REFUSED if threshold is not None and probability[0] < threshold else int(label[0]),)

    def logits(self, number: int, output: EncoderOutput) -> Floats:
        """(1, labels)."""
        assert output.label_logits is not None
        return output.label_logits[None]


@dataclass(frozen=True)
class MeasuredTags(MeasuredTexts):
    """Sentences with a tag for every word."""

    sentences: list[TaggedSentence]
    tagged: list[TaggedText]

    @property
    def targets(self) -> int:
        """Words."""
        return sum(len(sentence.words) for sentence in self.sentences)

    def scores(self, outputs: Sequence[EncoderOutput]) -> dict[str, float]:
        """Of the words' tags."""
        logits = []
        for output in outputs:
            assert output.tag_logits is not None
            logits.append(torch.from_numpy(output.tag_logits))
        return tag_scores(logits, self.tagged, self.sentences, self.config)

    def decision(self, number: int, output: EncoderOutput) -> tuple[int, ...]:
        """Each word's tag."""
        return tuple(self.logits(number, output).argmax(axis=-1).tolist())

    def logits(self, number: int, output: EncoderOutput) -> Floats:
        """(words, tags)."""
        assert output.tag_logits is not None
        return output.tag_logits[self.tagged[number].positions]


@dataclass(frozen=True)
class MeasuredMasks(MeasuredTexts):
    """Texts with one token hidden each."""

    hidden: list[int]
    """What stood there."""

    @property
    def targets(self) -> int:
        """Hidden tokens."""
        return len(self.hidden)

    def scores(self, outputs: Sequence[EncoderOutput]) -> dict[str, float]:
        """How often the likeliest token is the one that stood there."""
        right = [
            self.decision(number, output) == (token,)
            for number, (token, output) in enumerate(zip(self.hidden, outputs, strict=True))
        ]
        return {MASK_ACCURACY: float(np.mean(right))}

    def decision(self, number: int, output: EncoderOutput) -> tuple[int, ...]:
        """The likeliest token."""
        return (int(self.logits(number, output)[0].argmax()),)

    def logits(self, number: int, output: EncoderOutput) -> Floats:
        """(1, vocabulary)."""
        assert output.mask_logits is not None
        return output.mask_logits[:1]
