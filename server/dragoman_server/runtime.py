"""What a lane needs of a model's graphs, and onnxruntime's way of running an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.device import CPU, Device
from dragoman_server.fusing.attentions import ORIGINS
from dragoman_server.packing import pack, similar_lengths
from dragoman_server.row_decoder import RowDecoder, StepOutput
from dragoman_server.row_memory import Array, Part
from dragoman_server.rows import Ints, Move
from dragoman_server.sessions import Sessions

__all__ = ["ENCODE_TOKENS", "OnnxRuntime", "PromptRuntime", "Runtime", "StepOutput", "StepRuntime"]


ENCODE_TOKENS = 512
"""Source tokens that join a lane at one time, unless its engine is told otherwise."""


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

    @property
    def kernels(self) -> Path | None:
        """The library of compiled kernels that serves it; None: there is none."""

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
    """Two onnxruntime sessions on one device, and caches there that the decoder writes in place.

    The caches are allocated once, for ``max_rows`` and the limits. ``kernels`` is a library of compiled operators;
    None: onnxruntime's own. ``sessions`` makes the sessions; None: they are not shared with other runtimes.
    """

    def __init__(
        self,
        encoder: Path,
        decoder: Path,
        *,
        dimensions: Dimensions,
        limits: Limits,
        max_rows: int,
        device: Device = CPU,
        kernels: Path | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        sessions = sessions or Sessions()
        super().__init__(
            decoder,
            dimensions=dimensions,
            capacity=limits.target_tokens,
            max_rows=max_rows,
            device=device,
            kernels=kernels,
            sessions=sessions,
        )
        self._encoder = sessions.of(encoder, device, kernels=self._kernels)
        self._source_capacity = limits.source_tokens
        self._cross = self._new_caches("cross_key_0", max_rows, limits.source_tokens)
        self._last = self._memory.vectors(
            (len(self._kinds), max_rows, 1, dimensions.d_model), self._type("cross_last_key_0")
        )
        self._cross_lengths = np.zeros(max_rows, np.int32)
        self._cross_total = np.array(limits.source_tokens if self._memory.fixed_lengths else 1, np.int32)
        self._bind_buckets()

    @property
    def source_capacity(self) -> int:
        """Longest source, in tokens."""
        return self._source_capacity

    def warm_up(self) -> None:
        """Run the encoder and the step of every bucket once."""
        sources = [[0] * min(8, self.source_capacity)]
        if self._memory.fixed_lengths:
            # As much as usually joins at one time, so that whatever comes later finds memory that suits it.
            sources = [[0] * self.source_capacity] * min(self.max_rows, max(1, ENCODE_TOKENS // self.source_capacity))
        self.encode(range(len(sources)), sources)
        # The largest first: what it has computed with does for all others, where each larger one would take its own.
        for rows in reversed(self._buckets):
            self.step([0] * rows)
            self._lengths[:], self._cross_lengths[:] = 0, 0
        self._stale = True

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Encode sources together, as packed tokens: the neighbours cannot change a result.

        Where attention pads them, those of similar lengths; compiled operators compute no padding.
        """
        lengths = list(map(len, sources))
        if not 1 <= min(lengths) <= max(lengths) <= self._source_capacity:
            index = next(at for at, length in enumerate(lengths) if not 1 <= length <= self._source_capacity)
            raise ValueError(f"source {index} has {lengths[index]} tokens: 1 to {self._source_capacity}")
        for group in [range(len(sources))] if self._kernels else similar_lengths(sources):
            self._encode_group([rows[index] for index in group], [sources[index] for index in group])

    def _encode_group(self, rows: list[int], sources: Sequence[Sequence[int]]) -> None:
        packed = pack(sources)
        # (caches, num_heads, tokens, head_dim) and (caches, batch, 1, d_model)
        cross, last = self._memory.run(self._encoder, ["cross", "cross_last"], packed.feeds)
        self._cross.write(rows, packed.begins, packed.lengths, cross)
        self._last.write(rows, last)
        self._begin(rows, 0)
        self._cross_lengths[rows] = packed.lengths - 1

    def encoded(self, row: int) -> list[Array]:
        """Copies of what the row holds of its source, for comparing: keys and values of every layer."""
        length = int(self._cross_lengths[row]) + 1
        # (caches, num_heads, source, head_dim) and (caches, 1, d_model)
        return [self._cross.read(row, length), self._last.read(row)]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """Run one step in place; ValueError where a row's cache is full."""
        self._prepare(tokens, with_logits, with_attention)
        if not with_attention:
            return self._run()
        weights = self._binding.run_for("cross_attention")  # (bucket, longest source or more)
        return self._grown()._replace(attention=self._attention(weights))

    def _attention(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The last layer's cross-attention of the live rows (rows, source), zero beyond each row's source."""
        lengths = self._cross_lengths[: len(self._live_ids), None]
        weights = weights[: len(lengths), : int(lengths.max()) + 1]
        real = np.arange(weights.shape[1]) <= lengths
        return np.where(real, weights, np.float32(0))

    def _copy_beginnings(self, sources: Ints, targets: Ints) -> None:
        lengths = self._cross_lengths[sources]
        self._cross.copy(sources, targets, self._zeros[: len(sources)], lengths + 1)
        self._last.copy(sources, targets)
        self._cross_lengths[targets] = lengths

    def _selecting(self, rows: int) -> None:
        if not self._memory.fixed_lengths:
            self._cross_total[...] = int(self._cross_lengths[:rows].max()) + 1

    def _counters(self) -> list[Array]:
        return [*super()._counters(), self._cross_lengths]

    def _inputs(self, rows: int) -> dict[str, Array]:
        found = {"cross_lengths": self._cross_lengths[:rows], "cross_total": self._cross_total}
        if ORIGINS in self._types:
            found[ORIGINS] = self._origins[:rows]
        return super()._inputs(rows) | found

    def _parts(self) -> Iterator[Part]:
        yield from super()._parts()
        for number, kind in enumerate(self._kinds):
            # A step writes the last source token's key and value over themselves.
            yield Part(f"cross_{kind}", f"present_cross_{kind}", self._cross, number)
            yield Part(f"cross_last_{kind}", None, self._last, number)
