"""Which of a model's attention weights are asked for: layers, heads, or fewer numbers made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.explaining.graph import Array, Attention
from dragoman_server.explaining.rollout import mean_over, rolled_out

KINDS = ("encoder_self", "decoder_self", "cross")
_FLOAT_BYTES = 4


class Aggregation(Enum):
    """What is made of layers and heads."""

    NONE = "none"
    MEAN_HEADS = "mean over the heads"
    MEAN = "mean over layers and heads"
    ROLLOUT = "rollout"


@dataclass(frozen=True)
class Selected:
    """One kind of attention."""

    layers: tuple[int, ...]
    """Numbers of those that are here; none where they were made into one."""
    heads: tuple[int, ...]
    weights: Array
    """(layers, heads, queries, keys)"""


@dataclass(frozen=True)
class Selection:
    """Layers and heads by their numbers; empty: all. An aggregation excludes what it goes over."""

    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    aggregation: Aggregation = Aggregation.NONE

    def numbers(self, kind: str, dimensions: Dimensions) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The layers and heads of one kind that are returned each by itself."""
        count = dimensions.encoder_layers if kind == "encoder_self" else dimensions.decoder_layers
        layers = tuple(layer for layer in self.layers if layer < count) if self.layers else tuple(range(count))
        heads = self.heads or tuple(range(dimensions.num_heads))
        match self.aggregation:
            case Aggregation.NONE:
                return layers, heads
            case Aggregation.MEAN_HEADS:
                return layers, ()
            case Aggregation.MEAN:
                return (), ()
            case Aggregation.ROLLOUT:
                return (layers if kind == "cross" else ()), ()

    def bytes(self, family: Bundle.Family.ValueType, dimensions: Dimensions, source: int, target: int) -> int:
        """What the weights take in a message, for so many tokens."""
        sizes = {"encoder_self": source * source, "decoder_self": target * target, "cross": target * source}
        total = 0
        for kind in kinds(family):
            layers, heads = self.numbers(kind, dimensions)
            aggregated = self.aggregation != Aggregation.NONE
            maps = max(len(layers), self._makes_one(kind)) * (1 if aggregated else len(heads))
            total += maps * sizes[kind] * _FLOAT_BYTES
        return total

    def _makes_one(self, kind: str) -> bool:
        """Whether all layers become one."""
        return self.aggregation == Aggregation.MEAN or (self.aggregation == Aggregation.ROLLOUT and kind != "cross")

    def of(self, attention: Attention, dimensions: Dimensions) -> dict[str, Selected]:
        """What was asked for, by kind."""
        match self.aggregation:
            case Aggregation.MEAN_HEADS:
                attention = mean_over(attention, (1,))
            case Aggregation.MEAN:
                attention = mean_over(attention, (0, 1))
            case Aggregation.ROLLOUT:
                attention = rolled_out(attention)
        found = {}
        for kind in KINDS:
            weights: Array | None = getattr(attention, kind)
            if weights is None:
                continue
            layers, heads = self.numbers(kind, dimensions)
            if not self._makes_one(kind):
                weights = weights[list(layers)]
            if self.aggregation == Aggregation.NONE:
                weights = weights[:, list(heads)]
            found[kind] = Selected(layers, heads, weights)
        return found


def kinds(family: Bundle.Family.ValueType) -> tuple[str, ...]:
    """The kinds of attention that a family has."""
    return {Bundle.FAMILY_ENCODER: ("encoder_self",), Bundle.FAMILY_DECODER: ("decoder_self",)}.get(family, KINDS)
