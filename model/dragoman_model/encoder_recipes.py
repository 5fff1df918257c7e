"""The recipes of encoder-only models: masked-token pre-training, classification and tagging."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dragoman_model.config import EncoderConfig
from dragoman_model.labelled_texts import LabelledSource
from dragoman_model.recipe import BaseRecipe, DataSection, Section
from dragoman_model.sentence_sources import SentenceSource


class TextsSection(DataSection):
    """What the data of all encoder-only models say."""

    lowercase: bool = False
    """Upper case is read as lower case, in training and ever after; offsets still refer to the text as it was given."""


class SentencesSection(TextsSection):
    """Sentences without labels."""

    train: list[SentenceSource] = Field(min_length=1)
    valid: list[SentenceSource] = Field(min_length=1)
    lowercase_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the training sentences that are read in lower case, drawn anew in each epoch: the model learns both."""
    next_sentence: bool = False
    """Pairs of sentences of ordered files, and whether the second follows; other sentences stand by themselves."""


class LabelsSection(TextsSection):
    """Texts with labels; texts out of scope in the training split are learnt as belonging to all labels equally."""

    source: LabelledSource
    multi_label: bool = False


class TagsSection(TextsSection):
    """Sentences with a tag for each word."""

    train: Path
    valid: Path
    test: Path | None = None
    bio: bool = False
    """Tags begin with B- and I-: words of one span are joined."""


class MaskingSection(Section):
    """Hidden tokens: what pre-training learns from, and an augmentation of fine-tuning."""

    share: float = Field(default=0.15, ge=0.0, lt=1.0)
    """Share of the tokens that are chosen."""
    weight: float = Field(default=0.0, ge=0.0)
    """In fine-tuning: weight of the loss of the hidden tokens; 0: they are not predicted, and the model has no head."""


class EncoderRecipe(BaseRecipe):
    """What the three have in common."""

    masking: MaskingSection = MaskingSection()

    def config(self, vocabulary: int, **inherited: Any) -> EncoderConfig:
        """The model's shape."""
        return EncoderConfig.model_validate({**inherited, **self.model, "vocabulary": vocabulary})


class MaskedLanguageRecipe(EncoderRecipe):
    """Masked tokens, and next sentences where there are any; sentences above ``training.max_tokens`` are left out."""

    task: Literal["masked-language-model"]
    data: SentencesSection


class ClassificationRecipe(EncoderRecipe):
    """Labels from the [CLS] state; texts above ``training.max_tokens`` are cut."""

    task: Literal["classification"]
    data: LabelsSection
    masking: MaskingSection = MaskingSection(share=0.0)


class TaggingRecipe(EncoderRecipe):
    """A tag for every word, at its first piece; training sentences above ``training.max_tokens`` are left out."""

    task: Literal["tagging"]
    data: TagsSection
    masking: MaskingSection = MaskingSection(share=0.0)
