"""A language model's graph in int8: what its linear maps were seen to read, and the ways to quantise it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from dragoman_export.cache_quantization import quantize_decoder_caches, self_cache_scales, watched
from dragoman_export.graphs import DECODER
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
from dragoman_server.graphs import CACHE_TYPES

_EVERY_TOKEN = "Gather"


@dataclass(frozen=True)
class QuantizedLanguageGraph:
    """An int8 graph on disk, and how it came about, in words."""

    path: Path
    description: str


def observe_language_graph(path: Path, windows: Sequence[Sequence[int]], threads: int) -> ObservedGraph:
    """Run the float32 graph over windows of ids, each as one prompt, and gather the linear maps' inputs."""
    observed = unobserved(path)
    before_choice = _before_choice(observed.model)
    names = sorted({linear.input for linear in observed.linears} | set(watched(observed.linears)))
    # Of the tensors that hold the last token alone, what that was taken from: every token counts.
    seen = [before_choice.get(name, name) for name in names]
    session = measuring_session(path, seen, threads)
    past = [port for port in session.get_inputs() if port.name.startswith("past_")]
    for window in windows:
        shape = (1, past[0].shape[1], len(window), past[0].shape[3])
        feeds = {port.name: np.zeros(shape, CACHE_TYPES[port.type]) for port in past} | {
            "input_ids": np.array([window], np.int64),
            "lengths": np.zeros(1, np.int32),
            "total_length": np.array(len(window), np.int32),
        }
        values = session.run(seen, feeds)
        observed.calibration.add(
            {name: value.reshape(-1, value.shape[-1]) for name, value in zip(names, values, strict=True)}
        )
    return observed


def _before_choice(model: onnx.ModelProto) -> dict[str, str]:
    """For each tensor that is gathered from another computed one: that other."""
    computed = {name for node in model.graph.node for name in node.output}
    return {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == _EVERY_TOKEN and node.input[0] in computed
    }


def quantized_language_graphs(
    observed: ObservedGraph,
    folder: Path,
    attempts: Sequence[Attempt] = ATTEMPTS,
    *,
    shared: SharedEmbedding | None = None,
) -> Iterator[QuantizedLanguageGraph]:
    """Write decoder.onnx in int8 into ``folder``, one attempt after the other; each overwrites the one before.

    They read the ``shared`` embedding, if there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scales = self_cache_scales(observed.linears, observed.calibration)
    for attempt in attempts:
        quantized, kept = quantized_graph(observed, attempt, half_embedding=shared is not None)
        quantize_decoder_caches(quantized, scales)
        write_graph(quantized, folder / DECODER, shared)
        yield QuantizedLanguageGraph(folder / DECODER, describe_attempt(attempt, kept))
