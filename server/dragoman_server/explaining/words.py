"""The words of a text, and which of its tokens belong to which word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

Span = tuple[int, int]
"""Begin and end, in code points."""

_JOINERS = "-'\u2019"
"""Between two letters they stand inside a word, as in "don't" and "e-mail"."""


def words(text: str) -> list[Span]:
    """Runs of letters and digits, and runs of anything else that is not white space.

    Combining marks and other characters that show nothing by themselves belong to what stands before them.
    """
    found: list[Span] = []
    begin = 0
    kind: str | None = None
    for place, letter in enumerate(text):
        now = _kind(letter)
        if now == "mark":
            now = kind if kind in {"word", "sign"} else "sign"  # what stands before it may be nothing to belong to
        elif letter in _JOINERS and kind == "word" and _kind(text[place + 1 : place + 2]) == "word":
            now = "word"
        if now != kind:
            if kind in {"word", "sign"}:
                found.append((begin, place))
            begin, kind = place, now
    if kind in {"word", "sign"}:
        found.append((begin, len(text)))
    return found


def _kind(letter: str) -> str:
    """ "space", "word", "mark" or "sign"; of the empty string "space"."""
    if not letter or letter.isspace():
        return "space"
    if letter.isalnum() or letter == "_":
        return "word"
    # Marks (accents, vowel signs), joiners and variation selectors.
    return "mark" if unicodedata.category(letter)[0] == "M" or unicodedata.category(letter) == "Cf" else "sign"


def word_of_tokens(offsets: Sequence[Span], found: Sequence[Span]) -> list[int | None]:
    """For each token the number of the word that it shares most characters with; None where it shares none.

    Several tokens may stand in one character, as the bytes of an emoji do: each belongs to its word.
    """
    numbers: list[int | None] = []
    for begin, end in offsets:
        shared = [min(end, last) - max(begin, first) for first, last in found]
        best = max(range(len(found)), key=shared.__getitem__, default=None)
        numbers.append(best if best is not None and shared[best] > 0 else None)
    return numbers
