"""Sentence pairs of our own, aligned by hand, and how well an alignment agrees with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Pair = tuple[int, int]
"""Number of a German word and of an English one."""


@dataclass(frozen=True)
class AlignedPair:
    """``possible`` holds the sure links too."""

    de: str
    en: str
    sure: frozenset[Pair]
    possible: frozenset[Pair]


def hand_aligned() -> list[AlignedPair]:
    entries = json.loads(Path(__file__).with_name("hand_aligned.json").read_text(encoding="utf-8"))
    return [
        AlignedPair(e["de"], e["en"], _pairs(e["sure"]), _pairs(e["sure"]) | _pairs(e["possible"])) for e in entries
    ]


def _pairs(text: str) -> frozenset[Pair]:
    return frozenset((int(de), int(en)) for de, _, en in (link.partition("-") for link in text.split()))


def alignment_error_rate(pairs: Sequence[AlignedPair], found: Sequence[frozenset[Pair]]) -> float:
    """1 - (|A and S| + |A and P|) / (|A| + |S|) over all pairs together, Och and Ney 2003, section 6.1."""
    hits = sum(len(a & pair.sure) + len(a & pair.possible) for pair, a in zip(pairs, found, strict=True))
    return 1.0 - hits / sum(len(a) + len(pair.sure) for pair, a in zip(pairs, found, strict=True))
