"""A text that is decoded part by part: what of it is final, and what may still change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.codec import Codec
from dragoman_server.request import Progress
from dragoman_server.service.growing import GrowingText

_CONTEXT = 16
"""Tokens before those that are decoded: a decoder may treat the first of a text in its own way."""


@dataclass(frozen=True)
class _Following:
    """Decodes what follows some ids."""

    codec: Codec
    before: Sequence[int]

    def decode(self, ids: Sequence[int]) -> str:
        if not self.before:
            return self.codec.decode(ids)
        return self.codec.decode([*self.before, *ids])[len(self.codec.decode(self.before)) :]


class ContinuedText:
    """Final text only grows, and the finished text begins with it; of ended parts no more is decoded than is open yet.

    ``GrowingText`` says what is held back, also from one part to the next.
    """

    def __init__(self, codec: Codec, stops: Sequence[str] = ()) -> None:
        self.provisional = ""
        self._codec = codec
        self._stops = stops
        self._context: list[int] = []
        self._open: list[int] = []
        """Ids of ended parts whose text is not all final."""
        self._begin("")
        self._unread = ""

    def _begin(self, final: str) -> None:
        self._following = _Following(self._codec, self._context)
        self._growing = GrowingText(self._following, stops=self._stops)
        self._growing.final = final

    def update(self, progress: Progress) -> None:
        """Take in what has been decoded of the part that is under way."""
        before = len(self._growing.final)
        self._growing.update(Progress([*self._open, *progress.final_ids], progress.provisional_ids))
        self._unread += self._growing.final[before:]
        self.provisional = self._growing.provisional

    def go_on(self, token_ids: Sequence[int]) -> None:
        """The part has ended with these ids, and another one follows."""
        self.update(Progress(token_ids, []))
        ids, final = [*self._open, *token_ids], self._growing.final
        settled = (count for count in range(len(ids), 0, -1) if final.startswith(self._following.decode(ids[:count])))
        count = next(settled, 0)
        rest = final[len(self._following.decode(ids[:count])) :]
        self._open, self._context = ids[count:], [*self._context, *ids[:count]][-_CONTEXT:]
        self._begin(rest)

    def read(self) -> str:
        """What has become final since this was last asked."""
        unread, self._unread = self._unread, ""
        return unread
