"""A request without faults: the segments of a text, each as the engine takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.translation_host import TranslationHost


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a text that is translated by itself, or copied."""

    begin: int
    end: int
    source_ids: Sequence[int] = ()
    """Empty: it is copied."""
    options: DecodingOptions | None = None


@dataclass(frozen=True, slots=True)
class Translation:
    """What to hand to which engine."""

    host: TranslationHost
    text: str
    segments: Sequence[Segment]
    priority: int = 0
    hypotheses: int = 1
    replaces_unknowns: bool = False

    @property
    def translated(self) -> list[Segment]:
        """The segments that are not copied."""
        return [segment for segment in self.segments if segment.source_ids]

    def source_of(self, segment: Segment) -> str:
        """The segment's text."""
        return self.text[segment.begin : segment.end]
