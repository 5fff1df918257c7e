"""What one decoder step must move and do, from the model's sizes: pure arithmetic, for the roofline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Of a decoder, and of the bytes of what it keeps."""

    vocabulary: int
    d_model: int
    d_ff: int
    layers: int
    cache_bytes: int
    """Of one number in the caches: 4 in float32, 1 in int8."""


@dataclass(frozen=True)
class Step:
    """One step over some rows."""

    weight_bytes: float
    cache_bytes: float
    activation_bytes: float
    linear_operations: float
    """Multiplications and additions in 8 bits."""
    attention_operations: float
    """Multiplications and additions in float32."""

    @property
    def bytes(self) -> float:
        """All that has to come from memory or go there."""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


@dataclass(frozen=True)
class Ceilings:
    """What one thread of this machine reaches while all cores do the same."""

    int8_operations: float
    """A second, at this number of rows' matrix shapes being large."""
    float_operations: float
    bandwidth: float
    """Bytes a second from memory, read and written together."""
    cache_bandwidth: float
    """The same within the processor's last cache."""
    cache_bytes: float
    """What of that cache one thread may count on."""


def linear_weights(sizes: Sizes) -> int:
    """Numbers in the linear maps that a step goes through, the output layer included.

    A layer has self-attention (4 d^2), cross-attention's query and output (2 d^2; keys and values of the source are
    projected once, by the encoder's graph) and the feed-forward maps (2 d d_ff).
    """
    d = sizes.d_model
    return sizes.layers * (6 * d * d + 2 * d * sizes.d_ff) + sizes.vocabulary * d


def decoder_step(sizes: Sizes, *, rows: int, target_length: float, source_length: float) -> Step:
    """A step of ``rows`` rows that hold, on average, so many target tokens and attend to so many source tokens.

    Weights have 8 bits and are read once. Of the caches, keys and values of every position are read once, and one
    position of the target is written. Activations: the logits, written once and read once in float32; what lies
    between the layers stays in the processor's caches.
    """
    if rows < 1 or target_length < 1 or source_length < 1:
        raise ValueError(f"rows = {rows}, target = {target_length}, source = {source_length}: at least 1 each")
    weights = linear_weights(sizes)
    numbers = 2 * sizes.layers * sizes.d_model * (target_length + source_length + 1)
    return Step(
        weight_bytes=weights,
        cache_bytes=rows * numbers * sizes.cache_bytes,
        activation_bytes=rows * sizes.vocabulary * 8,
        linear_operations=2 * rows * weights,
        attention_operations=4 * rows * sizes.layers * sizes.d_model * (target_length + source_length),
    )


def least_seconds(step: Step, ceilings: Ceilings) -> tuple[float, str]:
    """The least time that the ceilings allow, and which of them it is.

    Operations in 8 bits and in float32 follow each other on the same core; memory works beside them. Where all that a
    step touches fits into the last cache, it is still there at the next step.
    """
    computing = step.linear_operations / ceilings.int8_operations
    computing += step.attention_operations / ceilings.float_operations
    cached = step.bytes <= ceilings.cache_bytes
    moving = step.bytes / (ceilings.cache_bandwidth if cached else ceilings.bandwidth)
    return (computing, "operations") if computing >= moving else (moving, "cache" if cached else "memory")
