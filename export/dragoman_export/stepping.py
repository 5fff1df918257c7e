"""Runs a pair of graphs along given targets, with any tensor inside them as an extra output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from dragoman_server.graphs import CACHE_TYPES
from dragoman_server.packing import pack
from dragoman_server.session_options import processor_options

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Encoded:
    """A batch of sources: what the encoder gave, the decoder's inputs made of it, and the lengths (batch,)."""

    outputs: Tensors
    """Of all sources' tokens side by side."""
    feeds: Tensors
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """Step ``number`` of the rows ``active`` (indices into the batch), whose targets reach that far."""

    number: int
    active: npt.NDArray[np.int64]
    outputs: Tensors
    """Asked-for outputs, all rows of the batch."""


class SteppedGraphs:
    """Encoder and decoder sessions for measuring; the ``extra`` lists name inner tensors to return."""

    def __init__(
        self,
        encoder: Path,
        decoder: Path,
        *,
        pad: int,
        bos: int,
        threads: int,
        encoder_extra: Sequence[str] = (),
        decoder_extra: Sequence[str] = (),
    ) -> None:
        self._encoder = measuring_session(encoder, encoder_extra, threads)
        self._decoder = measuring_session(decoder, decoder_extra, threads)
        self._pad, self._bos = pad, bos
        self._encoder_extra, self._decoder_extra = list(encoder_extra), list(decoder_extra)
        inputs = {port.name: port for port in self._decoder.get_inputs()}
        self._past = {name: port for name, port in inputs.items() if name.startswith("past_")}
        kinds = [name.removeprefix("past_") for name in self._past]
        self._cross, self._cross_last = [[f"{part}_{kind}" for kind in kinds] for part in ("cross", "cross_last")]

    def encode(self, sources: Sequence[Sequence[int]]) -> Encoded:
        """Encode the sources in one batch."""
        packed = pack(sources)
        names = ["cross", "cross_last", *self._encoder_extra]
        outputs: Tensors = dict(zip(names, self._encoder.run(names, packed.feeds), strict=True))
        tokens = outputs["cross"]  # (caches, num_heads, tokens, head_dim)
        caches = np.zeros(
            (len(tokens), len(sources), tokens.shape[1], packed.lengths.max(), tokens.shape[3]), tokens.dtype
        )
        for row, (begin, length) in enumerate(zip(packed.begins, packed.lengths, strict=True)):
            caches[:, row, :, :length] = tokens[:, :, begin : begin + length]
        feeds: Tensors = dict(zip(self._cross, caches, strict=True))
        feeds |= zip(self._cross_last, outputs["cross_last"], strict=True)
        return Encoded(outputs, feeds, packed.lengths)

    def force(self, encoded: Encoded, targets: Sequence[Sequence[int]], outputs: Sequence[str] = ()) -> Iterator[Step]:
        """Feed bos and then each target's tokens; yields ``len(target) + 1`` steps for the longest target."""
        rows = len(targets)
        reach = np.array([len(target) + 1 for target in targets])
        steps = int(reach.max())
        fed = np.full((rows, steps), self._pad, np.int64)
        fed[:, 0] = self._bos
        for row, target in enumerate(targets):
            fed[row, 1 : len(target) + 1] = target
        feeds = encoded.feeds | {
            "cross_lengths": (encoded.lengths - 1).astype(np.int32),
            "cross_total": np.array(encoded.lengths.max(), np.int32),
        }
        caches: Tensors = {
            name: np.zeros((rows, port.shape[1], steps, port.shape[3]), CACHE_TYPES[port.type])
            for name, port in self._past.items()
        }
        present = [name.replace("past", "present") for name in caches]
        asked = [*outputs, *self._decoder_extra]
        for number in range(steps):
            feeds |= {
                "input_ids": fed[:, number : number + 1],
                "lengths": np.full(rows, number, np.int32),
                "total_length": np.array(number + 1, np.int32),
            }
            values = self._decoder.run([*asked, *present], feeds | caches)
            caches = dict(zip(caches, values[len(asked) :], strict=True))
            yield Step(number, np.flatnonzero(reach > number), dict(zip(asked, values, strict=False)))


def batches(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], rows: int = 64) -> list[list[int]]:
    """Indices in batches of like length."""
    order = sorted(range(len(sources)), key=lambda i: (len(targets[i]), len(sources[i])))
    return [order[begin : begin + rows] for begin in range(0, len(order), rows)]


def measuring_session(path: Path, extra: Sequence[str], threads: int) -> Any:
    """A session of the graph that also returns the inner tensors named in ``extra``."""
    model = onnx.load(path)
    known = {port.name for port in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in known)
    return ort.InferenceSession(
        model.SerializeToString(),
        processor_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )
