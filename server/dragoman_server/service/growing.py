"""Text that is still being decoded: what of it is final, and what may still change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dragoman_server.request import Progress

_REPLACEMENT = "\ufffd"


class Decodes(Protocol):
    """Of a codec, what growing texts need."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""


class GrowingText:
    """One segment's text. ``final`` only grows, and the finished text begins with it.

    Held back are: a character of which only some bytes are there; blanks at the end, which a tokenizer may take back;
    what may be the beginning of one of ``stops``; and everything from the first ``unknown_id`` on, where unknown tokens
    will be replaced. Nothing is told from the first of ``stops`` on, where the text would end.
    """

    def __init__(self, codec: Decodes, *, stops: Sequence[str] = (), unknown_id: int | None = None) -> None:
        self.final = ""
        self.provisional = ""
        self._codec = codec
        self._stops = stops
        self._unknown_id = unknown_id

    def update(self, progress: Progress) -> None:
        """Take in what has been decoded so far."""
        ids = list(progress.final_ids)
        certain = ids[: ids.index(self._unknown_id)] if self._unknown_id in ids else ids
        whole = self._codec.decode([*ids, *progress.provisional_ids])
        text = _common(self._codec.decode(certain).rstrip(_REPLACEMENT), whole)
        text = text[: len(text) - self._possible_stop(text)].rstrip()
        if len(text) > len(self.final) and text.startswith(self.final):
            self.final = text
        whole = whole[: self._first_stop(whole)].rstrip(_REPLACEMENT)
        self.provisional = whole[len(self.final) :] if whole.startswith(self.final) else ""

    def _first_stop(self, text: str) -> int:
        return min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=len(text))

    def _possible_stop(self, text: str) -> int:
        """Characters at the end with which a stop sequence may begin."""
        lengths = (
            length
            for stop in self._stops
            for length in range(min(len(stop), len(text)), 0, -1)
            if text.endswith(stop[:length])
        )
        return max(lengths, default=0)


def _common(text: str, other: str) -> str:
    """What both begin with."""
    if other.startswith(text):
        return text
    return text[: next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(other))]
