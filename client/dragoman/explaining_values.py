"""What ``explain`` returns: tokens, attention weights and the alignment of words; frozen values, without numpy."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dragoman.values import Receipt, Usage


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One token that the model read."""

    token: str
    """The vocabulary's entry."""
    begin: int
    """Where it stands in the text, in code points; ``begin == end`` for special tokens, which stand nowhere."""
    end: int
    special: bool


class AttentionMaps:
    """Weights of attention, (layers, heads, queries, keys); each row over the keys sums to one.

    ``maps[layer, head, query, key]`` is a number; with fewer indices come lists, as from ``maps.tolist()``. Positions
    count from 0 among those that are here: ``layers`` and ``heads`` say which of the model's they are, and are empty
    where they were made into one. ``numpy.asarray(maps.weights).reshape(maps.shape)`` is the same without a copy.
    """

    __slots__ = ("_weights", "heads", "layers", "shape")

    def __init__(
        self, layers: tuple[int, ...], heads: tuple[int, ...], shape: tuple[int, int, int, int], weights: bytes
    ) -> None:
        """``weights`` are float32, little-endian, last index fastest; ValueError where they do not fit ``shape``."""
        if len(weights) != 4 * math.prod(shape):
            raise ValueError(f"{len(weights)} bytes of weights for the shape {shape}")
        self.layers, self.heads, self.shape = layers, heads, shape
        self._weights = array("f", weights)
        if sys.byteorder == "big":
            self._weights.byteswap()

    @property
    def weights(self) -> memoryview:
        """All of them in a row, float32; read-only."""
        return memoryview(self._weights).toreadonly()

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[list[list[list[float]]]]:
        return iter(self.tolist())

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:
        places = index if isinstance(index, tuple) else (index,)
        if len(places) > len(self.shape):
            raise IndexError(f"{len(places)} indices for {len(self.shape)} dimensions")
        begin, size = 0, math.prod(self.shape)
        for place, count in zip(places, self.shape, strict=False):
            if not -count <= place < count:
                raise IndexError(f"index {place} for a dimension of {count}")
            size //= count
            begin += (place % count) * size
        rest = self.shape[len(places) :]
        return _nested(self._weights[begin : begin + size], rest) if rest else self._weights[begin]

    def tolist(self) -> list[list[list[list[float]]]]:
        """Nested lists: layers, heads, queries, keys."""
        nested: list[list[list[list[float]]]] = _nested(self._weights, self.shape)
        return nested

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttentionMaps):
            return NotImplemented
        mine, others = ((each.layers, each.heads, each.shape, each._weights) for each in (self, other))
        return mine == others

    def __hash__(self) -> int:
        return hash((self.layers, self.heads, self.shape, self._weights.tobytes()))

    def __repr__(self) -> str:
        return f"AttentionMaps(layers={self.layers}, heads={self.heads}, shape={self.shape})"


def _nested(flat: array[float], shape: tuple[int, ...]) -> Any:
    if len(shape) == 1:
        return flat.tolist()
    size = math.prod(shape[1:])
    return [_nested(flat[place * size : (place + 1) * size], shape[1:]) for place in range(shape[0])]


@dataclass(frozen=True, slots=True)
class AlignmentLink:
    """A source word and a target word that stand for each other: ``text[source_begin:source_end]`` and so on."""

    source_begin: int
    source_end: int
    target_begin: int
    target_end: int
    weight: float
    """Share of the target word's attention, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The attention behind an answer."""

    text: str
    text_pair: str
    target_text: str
    """As given or decoded; a decoder's continuation. Empty for an encoder."""
    source_tokens: tuple[ExplainedToken, ...]
    """What the encoder read: queries and keys of ``encoder_self``, keys of ``cross``."""
    target_tokens: tuple[ExplainedToken, ...]
    """What the decoder read: queries and keys of ``decoder_self``, queries of ``cross``."""
    encoder_self: AttentionMaps | None
    decoder_self: AttentionMaps | None
    cross: AttentionMaps | None
    alignment: tuple[AlignmentLink, ...]
    """Of a translation, in the order of the target."""
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str

    @property
    def maps(self) -> dict[str, AttentionMaps]:
        """Those that the model has: ``encoder_self``, ``decoder_self``, ``cross``."""
        every = {"encoder_self": self.encoder_self, "decoder_self": self.decoder_self, "cross": self.cross}
        return {kind: maps for kind, maps in every.items() if maps is not None}

    def aligned_words(self) -> tuple[tuple[str, str, float], ...]:
        """Source word, target word and weight of each link."""
        return tuple(
            (
                self.text[link.source_begin : link.source_end],
                self.target_text[link.target_begin : link.target_end],
                link.weight,
            )
            for link in self.alignment
        )
