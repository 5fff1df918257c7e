"""From float32 graphs to int8 ones: observing activations, and the ways to choose ranges, plainest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from dragoman_export.cache_quantization import (
    cache_scales,
    quantize_decoder_caches,
    quantize_encoder_caches,
    watched,
)
from dragoman_export.calibration import Calibration, Method, Range
from dragoman_export.graphs import DECODER, ENCODER, GraphPaths
from dragoman_export.linears import Linear, find_linears, read_weights
from dragoman_export.quantize import quantize, smooth
from dragoman_export.shared_embedding import SharedEmbedding, write_graph
from dragoman_export.stepping import SteppedGraphs, batches
from dragoman_protos.v1.bundle_pb2 import Bundle

_KEPT_IN_FLOAT = 4


@dataclass(frozen=True)
class Attempt:
    """One way to quantise: how ranges are chosen, whether scale moves into the norms, how many maps stay float32."""

    method: Method
    smoothed: bool = False
    kept: int = 0


ATTEMPTS = (
    Attempt("range"),
    Attempt("percentile"),
    Attempt("mse"),
    Attempt("range", smoothed=True),
    Attempt("range", smoothed=True, kept=_KEPT_IN_FLOAT),
)
"""In the order in which they are tried."""


@dataclass(frozen=True)
class ObservedGraph:
    """A float32 graph and what was seen of its linear maps' inputs."""

    model: onnx.ModelProto
    linears: list[Linear]
    calibration: Calibration


@dataclass(frozen=True)
class QuantizedGraphs:
    """Int8 graphs on disk, and how they came about, in words."""

    paths: GraphPaths
    description: str


def observe(
    graphs: GraphPaths,
    manifest: Bundle,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    threads: int,
) -> tuple[ObservedGraph, ObservedGraph]:
    """Run encoder and decoder over the sentences, fed with ``targets``, and gather the linear maps' inputs."""
    encoder, decoder = (unobserved(path) for path in graphs)
    seen_of = [
        sorted({linear.input for linear in graph.linears} | set(watched(graph.linears))) for graph in (encoder, decoder)
    ]
    stepped = SteppedGraphs(
        *graphs,
        pad=manifest.special_ids.pad,
        bos=manifest.special_ids.bos,
        threads=threads,
        encoder_extra=seen_of[0],
        decoder_extra=seen_of[1],
    )
    for chosen in batches(sources, targets):
        encoded = stepped.encode([sources[i] for i in chosen])
        encoder.calibration.add({name: encoded.outputs[name] for name in seen_of[0]})
        for step in stepped.force(encoded, [targets[i] for i in chosen]):
            seen = {name: step.outputs[name][step.active] for name in seen_of[1]}
            decoder.calibration.add({name: _tokens(values) for name, values in seen.items()})
    return encoder, decoder


def quantized_variants(
    observed: tuple[ObservedGraph, ObservedGraph],
    folder: Path,
    attempts: Sequence[Attempt] = ATTEMPTS,
    *,
    shared: SharedEmbedding | None = None,
) -> Iterator[QuantizedGraphs]:
    """Write int8 graphs into ``folder``, one attempt after the other; each overwrites the one before.

    They read the ``shared`` embedding, if there is one; each holds its own otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = GraphPaths(folder / ENCODER, folder / DECODER)
    scales = cache_scales(*((graph.linears, graph.calibration) for graph in observed))
    for attempt in attempts:
        kept: list[str] = []
        for role, graph, path in zip(("encoder", "decoder"), observed, paths, strict=True):
            quantized, keep = quantized_graph(graph, attempt, half_embedding=shared is not None)
            kept += [f"{role} {name}" for name in keep]
            if role == "decoder":
                quantize_decoder_caches(quantized, scales.decoder)
            else:
                quantize_encoder_caches(quantized, watched(graph.linears)[0], scales)
            write_graph(quantized, path, shared)
        yield QuantizedGraphs(paths, describe_attempt(attempt, kept))


def quantized_graph(
    graph: ObservedGraph, attempt: Attempt, *, half_embedding: bool
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph in int8, caches aside, and the names of the linear maps that stay in float32."""
    model, ranges = graph.model, graph.calibration.ranges(attempt.method)
    if attempt.smoothed:
        model, ranges = smooth(model, graph.calibration, ranges)
    keep = _noisiest(graph, ranges, attempt.kept)
    return quantize(model, ranges, keep=keep, half_embedding=half_embedding), keep


def unobserved(path: Path) -> ObservedGraph:
    """A float32 graph of which nothing was seen yet."""
    model = onnx.load(path)
    return ObservedGraph(model, find_linears(model, read_weights(model)), Calibration())


def _tokens(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.reshape(-1, values.shape[-1])


def _noisiest(graph: ObservedGraph, ranges: dict[str, Range], count: int) -> list[str]:
    """Names of the linear maps, in this graph, whose inputs lose most in 8 bits."""
    order = graph.calibration.noisiest({linear.input for linear in graph.linears}, ranges)[:count]
    return [linear.name for linear in graph.linears if linear.input in order]


def describe_attempt(attempt: Attempt, kept: Sequence[str]) -> str:
    """An attempt in words, with the linear maps that stayed in float32."""
    words = {"range": "plain range", "percentile": "99.99% percentile", "mse": "least mean square error"}
    text = f"static int8, activation ranges by {words[attempt.method]}"
    if attempt.smoothed:
        text += ", scale moved into the norms (SmoothQuant)"
    if kept:
        text += f", in float32: {', '.join(kept)}"
    return text
