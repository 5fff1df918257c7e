"""What ``classify``, ``tag``, ``fill_mask`` and ``embed`` return: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman.values import Receipt, Usage


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its probability."""

    label: str
    probability: float
    """Of all labels together 1; for a model of several labels at a time, of each by itself."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The labels of a text, likeliest first; none where all were less probable than asked for."""

    labels: tuple[Label, ...]
    out_of_scope: bool | None
    """The text seems to belong to none of the labels. None: the model has no threshold to tell by."""
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str

    @property
    def label(self) -> str | None:
        """The likeliest label; None where there is none, or the text is out of scope."""
        return self.labels[0].label if self.labels and not self.out_of_scope else None


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled part of a text: ``text[begin:end]``."""

    tag: str
    begin: int
    end: int
    text: str
    probability: float
    """Of its first word's tag."""


@dataclass(frozen=True, slots=True)
class Tagging:
    """The spans of a text, in its order; they never overlap."""

    spans: tuple[Span, ...]
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str


@dataclass(frozen=True, slots=True)
class MaskCandidate:
    """What may stand in a mask's place."""

    token: str
    """The vocabulary's entry."""
    text: str
    """What it reads as there."""
    probability: float


@dataclass(frozen=True, slots=True)
class FilledMask:
    """A mask of a text, ``text[begin:end]``, and what may stand there, likeliest first."""

    begin: int
    end: int
    candidates: tuple[MaskCandidate, ...]


@dataclass(frozen=True, slots=True)
class FilledMasks:
    """The masks of a text, in its order, each filled without regard to the others."""

    masks: tuple[FilledMask, ...]
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Texts as vectors, in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    note: str
    """What they are good for, and what not."""
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str
