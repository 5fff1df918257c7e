"""From an encoder-only model's float32 graph to int8 ones: observing activations on texts, one try after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman_export.encoder_passes import ROWS
from dragoman_export.graphs import ENCODER
from dragoman_export.quantization_plan import (
    ATTEMPTS,
    Attempt,
    ObservedGraph,
    describe_attempt,
    quantized_graph,
    unobserved,
)
from dragoman_export.shared_embedding import SharedEmbedding, write_graph
from dragoman_export.stepping import measuring_session
from dragoman_server.pass_runtime import EncoderInput, packed_feeds


@dataclass(frozen=True)
class QuantizedEncoder:
    """An int8 graph on disk, and how it came about, in words."""

    path: Path
    description: str


def observe_encoder(path: Path, inputs: Sequence[EncoderInput], threads: int) -> ObservedGraph:
    """Run the float32 graph over the texts, and gather its linear maps' inputs."""
    graph = unobserved(path)
    seen = sorted({linear.input for linear in graph.linears})
    session = measuring_session(path, seen, threads)
    names = [port.name for port in session.get_inputs()]
    order = sorted(inputs, key=lambda text: len(text.ids))
    for begin in range(0, len(order), ROWS):
        values = session.run(seen, packed_feeds(order[begin : begin + ROWS], names))
        graph.calibration.add(dict(zip(seen, values, strict=True)))
    return graph


def quantized_encoders(
    observed: ObservedGraph,
    folder: Path,
    attempts: Sequence[Attempt] = ATTEMPTS,
    *,
    shared: SharedEmbedding | None = None,
) -> Iterator[QuantizedEncoder]:
    """Write int8 graphs into ``folder``, one attempt after the other; each overwrites the one before.

    They read the ``shared`` embedding, if there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ENCODER
    for attempt in attempts:
        quantized, kept = quantized_graph(observed, attempt, half_embedding=shared is not None)
        write_graph(quantized, path, shared)
        yield QuantizedEncoder(path, describe_attempt(attempt, kept))
