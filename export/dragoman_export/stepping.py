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

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Encoded:
    """A batch of sources: what the encoder gave, which tokens are real (batch, source), and their number (batch,)."""

    outputs: Tensors
    mask: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]


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
        self._encoder = _session(encoder, encoder_extra, threads)
        self._decoder = _session(decoder, decoder_extra, threads)
        self._pad, self._bos = pad, bos
        self._encoder_extra, self._decoder_extra = list(encoder_extra), list(decoder_extra)
        inputs = {port.name: port for port in self._decoder.get_inputs()}
        self._past = {name: port for name, port in inputs.items() if name.startswith("past_")}
        self._cross = [name for name in inputs if name.startswith("cross_") and name.rpartition("_")[2].isdigit()]

    def encode(self, sources: Sequence[Sequence[int]]) -> Encoded:
        """Encode the sources in one batch, padded on the right."""
        lengths = np.array([len(source) for source in sources], np.int32)
        ids = np.full((len(sources), int(lengths.max())), self._pad, np.int64)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = source
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        names = [*self._cross, *self._encoder_extra]
        values = self._encoder.run(names, {"input_ids": ids, "attention_mask": mask.astype(np.int32)})
        return Encoded(dict(zip(names, values, strict=True)), mask, lengths)

    def force(self, encoded: Encoded, targets: Sequence[Sequence[int]], outputs: Sequence[str] = ()) -> Iterator[Step]:
        """Feed bos and then each target's tokens; yields ``len(target) + 1`` steps for the longest target."""
        rows = len(targets)
        reach = np.array([len(target) + 1 for target in targets])
        steps = int(reach.max())
        fed = np.full((rows, steps), self._pad, np.int64)
        fed[:, 0] = self._bos
        for row, target in enumerate(targets):
            fed[row, 1 : len(target) + 1] = target
        feeds: Tensors = {name: encoded.outputs[name] for name in self._cross}
        feeds |= {
            "cross_lengths": encoded.lengths - 1,
            "cross_total": np.array(encoded.lengths.max(), np.int32),
        }
        caches: Tensors = {
            name: np.zeros((rows, port.shape[1], steps, port.shape[3]), np.float32) for name, port in self._past.items()
        }
        present = [name.replace("past", "present") for name in caches]
        asked = [*outputs, *self._decoder_extra]
        for number in range(steps):
            feeds |= {
                "input_ids": fed[:, number : number + 1],
                "positions": np.full((rows, 1), number, np.int64),
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


def _session(path: Path, extra: Sequence[str], threads: int) -> Any:
    model = onnx.load(path)
    known = {port.name for port in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in known)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )
