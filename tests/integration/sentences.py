"""Thousands of different sentences of our own, of mixed lengths, made by combining parts."""

from __future__ import annotations

import random

_WHO = [
    "my sister",
    "the old teacher",
    "our neighbour",
    "a young doctor",
    "the new captain",
    "your friend Karl",
    "nobody",
]
_DOES = ["bought", "was looking for", "forgot", "wanted to sell", "has never seen", "wrote about", "could not find"]
_WHAT = ["a red bicycle", "the last train", "the keys", "an expensive watch", "the letter", "some bread", "the answer"]
_WHERE = ["", "at the station", "in the garden behind the church", "near the river", "on the third floor", "at home"]
_WHEN = ["", "yesterday", "before the rain began", "on a cold morning in March", "when the shops were already closed"]
_MORE = [
    "",
    "because it was far too late",
    "although everybody had told them not to worry about such things",
    "and then walked home alone without saying a single word to anyone",
]


def sentences(count: int, seed: int = 1) -> list[str]:
    """``count`` different English sentences, about 4 to 35 words long."""
    chance = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        parts = [chance.choice(options) for options in (_WHO, _DOES, _WHAT, _WHERE, _WHEN, _MORE)]
        text = " ".join(part for part in parts if part)
        found[text[0].upper() + text[1:] + chance.choice(".!?")] = None
    return list(found)
