"""When a hypothesis ends: end-of-sentence, a string that stops the text, or the most tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor


@dataclass(frozen=True)
class StopSequences:
    """Strings that end the text before them; looked for in the text, since they may begin or end inside a token."""

    strings: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    def cut(self, token_ids: Sequence[int]) -> str | None:
        """The text of the ids before the first of the strings; None where it has none of them."""
        text = self.decode(token_ids)
        found = [position for string in self.strings if (position := text.find(string)) >= 0]
        return text[: min(found)] if found else None


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
