"""What the model reads, token by token: the vocabulary's entry, and where it stands in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dragoman_server.explaining.words import Span


class Codec(Protocol):
    """What is needed of a model's codec."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's entry for each id."""


@dataclass(frozen=True)
class ReadToken:
    """One token of what an encoder or a decoder reads."""

    token_id: int
    begin: int = 0
    end: int = 0
    special: bool = False


def read_tokens(ids: Sequence[int], offsets: Sequence[Span], text: str, *, after: int = 0) -> list[ReadToken]:
    """Tokens of ``text``, white space around each left out; ``after`` is added to their places."""
    return [
        ReadToken(token_id, after + begin, after + end)
        for token_id, span in zip(ids, offsets, strict=True)
        for begin, end in (_trimmed(span, text),)
    ]


def _trimmed(span: Span, text: str) -> Span:
    begin, end = span
    while begin < end and text[end - 1].isspace():
        end -= 1
    while begin < end and text[begin].isspace():
        begin += 1
    return (begin, end) if begin < end else span


def decoded_offsets(ids: Sequence[int], text: str, codec: Codec) -> list[Span]:
    """Where each of the ids stands in ``text``, which is what they decode to.

    Found by decoding ever longer beginnings. Where a token ends within a character, as bytes of one may, it stands at
    the whole character, and so does the next.
    """
    offsets: list[Span] = []
    begin = 0
    for count in range(1, len(ids) + 1):
        beginning = codec.decode(ids[:count])
        whole = _agreeing(beginning, text, begin)
        offsets.append((begin, min(len(text), max(whole, whole + 1 if len(beginning) > whole else begin))))
        begin = max(begin, whole)
    return offsets


def _agreeing(beginning: str, text: str, known: int) -> int:
    """How many characters at their beginnings are the same; ``known`` of them are."""
    place = known if beginning[:known] == text[:known] else 0
    while place < min(len(beginning), len(text)) and beginning[place] == text[place]:
        place += 1
    return place
