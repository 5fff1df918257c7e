"""What a lane needs of a model's graphs, and onnxruntime's way of running an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.packing import pack, similar_lengths
from dragoman_server.row_decoder import BoundCache, RowDecoder, StepOutput
from dragoman_server.rows import Move
from dragoman_server.sessions import lane_session

__all__ = ["OnnxRuntime", "PromptRuntime", "Runtime", "StepOutput", "StepRuntime"]


class StepRuntime(Protocol):
    """One lane's decoder and caches. Used by one thread at a time; row numbers are the caller's business."""

    @property
    def max_rows(self) -> int:
        """Rows of the caches."""

    @property
    def target_capacity(self) -> int:
        """Positions of a row: most tokens that can be fed to it."""

    @property
    def top_k(self) -> int:
        """Candidates of a row that a step gives."""

    def warm_up(self) -> None:
        """Do everything that is slow the first time. Leaves all rows empty."""

    def copy(self, moves: Sequence[Move]) -> None:
        """Copy all state of the sources to the targets; no row is both. Positions that are kept may be left out."""

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """Feed ``tokens[i]`` to row ``i`` of the rows ``0 .. len(tokens) - 1`` and score what comes next.

        Attention is that to a source: only a runtime that has sources is asked for it.
        """


class Runtime(StepRuntime, Protocol):
    """An encoder and a decoder, whose rows each have a source and a target."""

    @property
    def source_capacity(self) -> int:
        """Longest source, in tokens."""

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Encode ``sources[i]`` into row ``rows[i]``, which starts over with an empty target."""


class PromptRuntime(StepRuntime, Protocol):
    """A decoder alone, whose rows each hold a prompt and its continuation.

    All tokens of a prompt but the last are written chunk by chunk to a staging cache, and from there to a row; the last
    one is then fed by a step.
    """

    @property
    def prefill_chunk(self) -> int:
        """Most tokens of a prompt that are prefilled at one time."""

    def prefill(self, tokens: Sequence[int], begin: int) -> None:
        """Write a chunk to the positions from ``begin`` on of the staging cache; what stood there is forgotten."""

    def admit(self, row: int, length: int) -> None:
        """The row starts over with the first ``length`` staged positions, which may be none."""


class OnnxRuntime(RowDecoder):
    """Two onnxruntime sessions of one thread each, and caches that the decoder writes in place.

    The caches are allocated once, for ``max_rows`` and the limits. ``kernels`` is a library of compiled operators;
    None: onnxruntime's own.
    """

    def __init__(
        self,
        encoder: Path,
        decoder: Path,
        *,
        dimensions: Dimensions,
        limits: Limits,
        max_rows: int,
        huge_pages: bool = True,
        kernels: Path | None = None,
    ) -> None:
        super().__init__(
            decoder,
            dimensions=dimensions,
            capacity=limits.target_tokens,
            max_rows=max_rows,
            huge_pages=huge_pages,
            kernels=kernels,
        )
        self._encoder = lane_session(encoder, self._kernels)
        self._source_capacity = limits.source_tokens
        self._cross = self._new_caches("cross_key_0", max_rows, limits.source_tokens)
        self._last = np.zeros((len(self._kinds), max_rows, 1, dimensions.d_model), np.float32)
        self._cross_lengths = np.zeros(max_rows, np.int32)
        self._cross_total = np.array(1, np.int32)
        self._bind_buckets()

    @property
    def source_capacity(self) -> int:
        """Longest source, in tokens."""
        return self._source_capacity

    def warm_up(self) -> None:
        """Run the encoder and the step of every bucket once."""
        self.encode([0], [[0] * min(8, self.source_capacity)])
        for rows in self._buckets:
            self.step([0] * rows)
            self._lengths[:], self._cross_lengths[:] = 0, 0
        self._stale = True

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Encode sources of similar lengths together, as packed tokens: the neighbours cannot change a result."""
        for index, source in enumerate(sources):
            if not 1 <= len(source) <= self.source_capacity:
                raise ValueError(f"source {index} has {len(source)} tokens: 1 to {self.source_capacity}")
        for group in similar_lengths(sources):
            self._encode_group([rows[index] for index in group], [sources[index] for index in group])

    def _encode_group(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        packed = pack(sources)
        # (caches, num_heads, tokens, head_dim) and (caches, batch, 1, d_model)
        cross, last = self._encoder.run(["cross", "cross_last"], packed.feeds)
        for row, begin, length in zip(rows, packed.begins.tolist(), packed.lengths.tolist(), strict=True):
            self._cross[:, row, :, :length] = cross[:, :, begin : begin + length]
            self._begin(row, 0)
        where = np.array(rows)
        self._last[:, where] = last
        self._cross_lengths[where] = packed.lengths - 1

    def encoded(self, row: int) -> list[npt.NDArray[Any]]:
        """Copies of what the row holds of its source, for comparing: keys and values of every layer."""
        length = int(self._cross_lengths[row]) + 1
        # (caches, num_heads, source, head_dim) and (caches, 1, d_model)
        return [self._cross[:, row, :, :length].copy(), self._last[:, row].copy()]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """Run one step in place; ValueError where a row's cache is full."""
        self._prepare(tokens, with_logits, with_attention)
        if not with_attention:
            return self._run()
        # As wide as the longest source: what the step before has allocated may not fit. Comes after all others.
        self._binding.bind_output("cross_attention", "cpu")
        return self._run()._replace(attention=self._attention())

    def _attention(self) -> npt.NDArray[np.float32]:
        """The last layer's cross-attention of the live rows (rows, source), zero beyond each row's source."""
        (weights,) = (output.numpy() for output in self._binding.get_outputs()[-1:])
        rows = len(self._live_ids)
        real = np.arange(weights.shape[1]) <= self._cross_lengths[:rows, None]
        return np.where(real, weights[:rows], np.float32(0))

    def _copy_beginning(self, source: int, target: int) -> None:
        length = int(self._cross_lengths[source]) + 1
        self._cross[:, target, :, :length] = self._cross[:, source, :, :length]
        self._last[:, target] = self._last[:, source]
        self._cross_lengths[target] = length - 1

    def _selecting(self, rows: int) -> None:
        self._cross_total[...] = int(self._cross_lengths[:rows].max()) + 1

    def _counters(self) -> list[npt.NDArray[Any]]:
        return [*super()._counters(), self._cross_lengths]

    def _inputs(self, rows: int) -> dict[str, npt.NDArray[Any]]:
        last = {f"cross_last_{kind}": last[:rows] for kind, last in zip(self._kinds, self._last, strict=True)}
        cross = {"cross_lengths": self._cross_lengths[:rows], "cross_total": self._cross_total}
        return super()._inputs(rows) | cross | last

    def _caches(self, rows: int) -> Iterator[BoundCache]:
        yield from super()._caches(rows)
        for kind, cross in zip(self._kinds, self._cross, strict=True):
            # A step writes the last source token's key and value over themselves.
            yield BoundCache(f"cross_{kind}", f"present_cross_{kind}", cross[:rows])
