"""Runs ``explain.onnx``: ids in, every attention weight out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from dragoman_server.session_options import processor_options

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExplainInput:
    """One text, or a source and its target.

    ``source`` is what an encoder reads, ``target`` what a decoder does (its first token included); a family without
    the one leaves it empty. ``segments`` are an encoder's, as many as ``source`` has ids; empty: all 0.
    """

    source: Sequence[int] = ()
    target: Sequence[int] = ()
    segments: Sequence[int] = ()


@dataclass(frozen=True)
class Attention:
    """The weights of one input, float32; None where the family has none of the kind."""

    encoder_self: Array | None = None
    """(layers, heads, source, source)"""
    decoder_self: Array | None = None
    """(layers, heads, target, target)"""
    cross: Array | None = None
    """(layers, heads, target, source)"""


class Graph(Protocol):
    """What an explainer needs of a graph."""

    def run(self, inputs: Sequence[ExplainInput]) -> list[Attention]:
        """The weights of each input, without padding."""


class ExplainGraph:
    """One session of one thread over an ``explain.onnx``.

    It holds the weights in float32, so twice the file where that stores them in float16, and more while it is made: the
    15 MB of deu-eng, embedding included, take 55 MB of memory.
    """

    def __init__(self, path: Path) -> None:
        options = processor_options()
        # What one request took is given back: requests are few, and of any size.
        options.enable_cpu_mem_arena = False
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [port.name for port in self._session.get_inputs()]
        self._outputs = [port.name for port in self._session.get_outputs()]

    def run(self, inputs: Sequence[ExplainInput]) -> list[Attention]:
        """The weights of each input, without padding; all are computed as one padded batch.

        Raises ArithmeticError where one of them is no number.
        """
        by_name = self.run_padded(inputs)
        sizes = {
            "encoder_self": [(len(each.source), len(each.source)) for each in inputs],
            "decoder_self": [(len(each.target), len(each.target)) for each in inputs],
            "cross": [(len(each.target), len(each.source)) for each in inputs],
        }
        found = [
            {
                name: weights[number, :, :, : sizes[name][number][0], : sizes[name][number][1]]
                for name, weights in by_name.items()
            }
            for number in range(len(inputs))
        ]
        if not all(np.isfinite(weights).all() for one in found for weights in one.values()):
            raise ArithmeticError("an attention weight is no number")
        return [Attention(**one) for one in found]

    def run_padded(self, inputs: Sequence[ExplainInput]) -> dict[str, Array]:
        """The graph's outputs by name, (batch, layers, heads, queries, keys), padded to the longest input."""
        sources, targets = _padded([each.source for each in inputs]), _padded([each.target for each in inputs])
        lengths = np.array([len(each.source) for each in inputs], np.int32)
        feeds = {
            "source_ids": sources,
            "source_lengths": lengths,
            "lengths": lengths,
            "target_ids": targets,
            # Of an encoder the source, of a decoder the target.
            "input_ids": sources if "lengths" in self._inputs else targets,
            "segments": _padded([each.segments or [0] * len(each.source) for each in inputs]),
        }
        outputs = self._session.run(self._outputs, {name: feeds[name] for name in self._inputs})
        return dict(zip(self._outputs, outputs, strict=True))


def _padded(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """(rows, longest): filled up with zeros on the right, which the graph never looks at."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
