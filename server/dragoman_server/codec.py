"""Text to ids and back, as decoding needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Codec(Protocol):
    """Text to ids and back. Threads may share it; what a text says is never taken for a special token."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without language tag and end-of-sentence."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The same for several texts at once."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Begin and end, in code points, of each id of the text."""

    def spellings(self, phrase: str) -> list[list[int]]:
        """Ids of the phrase at the start of a word and inside one; each way once."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        """The same, with a word in place of the id at each position that ``words`` names."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's entry for each id."""
