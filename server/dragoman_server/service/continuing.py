"""A text that is decoded part by part: what of it is final, and what may still change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.codec import Codec
from dragoman_server.request import Progress
from dragoman_server.service.growing import GrowingText

_CONTEXT = 16
"""Tokens before those that are decoded: a decoder may treat the first of a text in its own way."""
_DECODED = 32
"""Tokens that are decoded again and again, at the least."""


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
    """Final text only grows, and the finished text begins with it. However long it is, little is decoded at one time.

    ``GrowingText`` says what is held back, also from one part to the next.
    """

    def __init__(self, codec: Codec, stops: Sequence[str] = ()) -> None:
        self.provisional = ""
        self._codec = codec
        self._stops = stops
        self._context: list[int] = []
        self._open: list[int] = []
        """Ids of ended parts whose text is not all final."""
        self._settled = 0
        """Of the part's ids those whose text is: they are not decoded any more."""
        self._most = _DECODED
        """With more ids than this it is tried to settle some."""
        self._unread = ""
        self._begin("")

    def _begin(self, final: str) -> None:
        self._following = _Following(self._codec, self._context)
        self._growing = GrowingText(self._following, stops=self._stops)
        self._growing.final = final

    def update(self, progress: Progress) -> None:
        """Take in what has been decoded of the part that is under way."""
        ids = self._grow(progress.final_ids, progress.provisional_ids)
        if len(ids) > self._most:
            settled = self._settle(ids)
            self._settled += max(0, settled - len(self._open))
            self._open = self._open[settled:]

    def go_on(self, token_ids: Sequence[int]) -> None:
        """The part has ended with these ids, and another one follows."""
        ids = self._grow(token_ids, ())
        self._open, self._settled = ids[self._settle(ids) :], 0

    def read(self) -> str:
        """What has become final since this was last asked."""
        unread, self._unread = self._unread, ""
        return unread

    def _grow(self, final_ids: Sequence[int], provisional_ids: Sequence[int]) -> list[int]:
        """Decode what is open; returns all that is certain of it."""
        ids, before = [*self._open, *final_ids[self._settled :]], len(self._growing.final)
        self._growing.update(Progress(ids, provisional_ids))
        self._unread += self._growing.final[before:]
        self.provisional = self._growing.provisional
        return ids

    def _settle(self, ids: list[int]) -> int:
        """Forget the first of the ids, as many as have no text but final one; returns how many."""
        final = self._growing.final
        fitting = (count for count in range(len(ids), 0, -1) if final.startswith(self._following.decode(ids[:count])))
        count = next(fitting, 0)
        rest = final[len(self._following.decode(ids[:count])) :]
        self._context = [*self._context, *ids[:count]][-_CONTEXT:]
        self._most = len(ids) - count + _DECODED
        self._begin(rest)
        return count
