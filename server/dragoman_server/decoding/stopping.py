"""When a hypothesis ends: end-of-sentence, a string that stops the text, or the most tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

_MOST_BYTES = 4
"""Of a character in UTF-8, so at most as many tokens."""


@dataclass(frozen=True)
class StopSequences:
    """Strings that end the text before them; looked for in the text, since they may begin or end inside a token."""

    strings: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]
    before: tuple[int, ...] = ()
    """Ids that come before all others, without any of the strings: one may begin in them."""

    def after(self, token_ids: Sequence[int]) -> StopSequences:
        """The same for a text that goes on after these ids; as many of them are kept as a string may begin in."""
        longest = _MOST_BYTES * max(map(len, self.strings))
        return replace(self, before=(*self.before, *token_ids)[-longest:])

    def cut(self, token_ids: Sequence[int]) -> str | None:
        """The text of the ids before the first of the strings; None where it has none of them."""
        text = self._text(token_ids)
        found = [position for string in self.strings if (position := text.find(string)) >= 0]
        return text[: min(found)] if found else None

    def settled(self, token_ids: Sequence[int]) -> int:
        """How many of the ids, from the first, stand for text that no stop sequence will cut, whatever follows.

        The text's longest end that one of them begins with is not settled, nor is a character of which some bytes are
        still to come. A prefix that was forced may have one in it, which will cut the text as soon as it goes on.
        """
        text = self._text(token_ids).rstrip("\ufffd")
        cut = self.cut(token_ids)
        certain = len(text) - max(_overlap(text, string) for string in self.strings) if cut is None else len(cut)
        for count in range(len(token_ids), 0, -1):
            part = self._text(token_ids[:count])
            if len(part) <= certain and text.startswith(part):
                return count
        return 0

    def _text(self, token_ids: Sequence[int]) -> str:
        return self.decode([*self.before, *token_ids] if self.before else token_ids)


def _overlap(text: str, string: str) -> int:
    """How many characters the longest end of the text has that the string begins with, but is not."""
    longest = min(len(text), len(string) - 1)
    return next((size for size in range(longest, 0, -1) if string.startswith(text[-size:])), 0)


def resolve_lengths(
    source_tokens: int,
    *,
    max_length: int,
    min_length: int,
    max_length_ratio: float | None = None,
    min_length_ratio: float | None = None,
) -> tuple[int, int]:
    """Most and fewest target tokens for a source of that many tokens.

    Of the absolute and the relative bound the smaller maximum and the larger minimum hold; the maximum is at least 1,
    and a relative minimum never outranks the maximum.
    """
    if max_length_ratio is not None:
        max_length = min(max_length, max(1, floor(max_length_ratio * source_tokens)))
    if min_length_ratio is not None:
        min_length = max(min_length, ceil(min_length_ratio * source_tokens))
    return max_length, min(min_length, max_length - 1)
