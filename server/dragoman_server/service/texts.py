"""What holds for any string that a caller sends, and how it is shown in an error."""

from __future__ import annotations

import re

_LONGEST_VALUE = 40
_UNFIT = re.compile("[\0\ud800-\udfff]")


def shortened(value: str) -> str:
    """What was sent, escaped and cut: error messages carry no whole texts and no control characters."""
    return ascii(value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 3]}...")


def unfit(text: str) -> str | None:
    """Where a text has a character that no model takes, in words; None where it has none."""
    if found := _UNFIT.search(text):
        kind = "NUL" if found[0] == "\0" else "a lone surrogate"
        return f"{kind} at character {found.start() + 1}"
    return None
