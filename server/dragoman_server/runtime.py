"""Runs a model's graphs over rows of cache: what a lane needs, and onnxruntime's way of doing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.graphs import CACHE_TYPES
from dragoman_server.huge_pages import zeros
from dragoman_server.packing import pack
from dragoman_server.rows import Move
from dragoman_server.sessions import lane_session

_NOTHING = -1
_PLAIN = False, False
"""Neither logits nor attention."""


class StepOutput(NamedTuple):
    """The candidates of each live row, best first. Views: the next step overwrites them."""

    top_log_probs: npt.NDArray[np.float32]  # (rows, top_k)
    top_ids: npt.NDArray[np.int64]  # (rows, top_k)
    logits: npt.NDArray[np.float32] | None = None  # (rows, vocabulary)
    """Where the step was asked for them."""
    attention: npt.NDArray[np.float32] | None = None  # (rows, source)
    """The last layer's cross-attention, mean of its heads, zero beyond a row's source; where it was asked for."""


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


def row_buckets(max_rows: int) -> list[int]:
    """Row counts that a step is bound for: 1, 2, 3, 4, 6, 8, 12, 16, ... and ``max_rows``."""
    sizes = {1, max_rows} | {size << shift for size in (2, 3) for shift in range(max_rows.bit_length())}
    return sorted(size for size in sizes if size <= max_rows)


class OnnxRuntime:
    """Two onnxruntime sessions of one thread each, and caches that the decoder writes in place.

    The caches are allocated once, for ``max_rows`` and the limits. A step over n rows runs in the smallest bucket of at
    least n rows; each bucket is bound once, to a prefix of the arrays, and a step only rewrites the arrays' content.
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
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows = {max_rows}: at least 1")
        self._encoder, self._decoder = lane_session(encoder), lane_session(decoder)
        self._max_rows = max_rows
        self._source_capacity, self._target_capacity = limits.source_tokens, limits.target_tokens
        types = {port.name: CACHE_TYPES.get(port.type) for port in self._decoder.get_inputs()}
        self._kinds = [f"{kind}_{layer}" for layer in range(dimensions.decoder_layers) for kind in ("key", "value")]

        def caches(name: str, time: int) -> npt.NDArray[Any]:
            shape = (len(self._kinds), max_rows, dimensions.num_heads, time, dimensions.head_dim)
            return zeros(shape, np.dtype(types[name]), huge_pages=huge_pages)

        # One array for the caches of all layers, keys and values by turns: a row is copied by one assignment.
        self._self = caches("past_key_0", limits.target_tokens)
        self._cross = caches("cross_key_0", limits.source_tokens)
        self._last = np.zeros((len(self._kinds), max_rows, 1, dimensions.d_model), np.float32)
        self._ids = np.zeros((max_rows, 1), np.int64)
        self._lengths = np.zeros(max_rows, np.int32)
        self._cross_lengths = np.zeros(max_rows, np.int32)
        self._encoded = [_NOTHING] * max_rows
        """Which encoding, counted from 0, the row's cross caches hold."""
        self._encodings = 0
        self._longest = 0
        """Most target tokens of a live row."""
        self._total, self._cross_total = np.array(1, np.int32), np.array(1, np.int32)
        self._top_log_probs = np.zeros((max_rows, dimensions.top_k), np.float32)
        self._top_ids = np.zeros((max_rows, dimensions.top_k), np.int64)
        # Memory is taken when it is first written, so by servers that are asked for what needs logits.
        self._logits = np.zeros((max_rows, dimensions.vocabulary), np.float32)
        self._buckets = row_buckets(max_rows)
        self._bindings = {(rows, *_PLAIN): self._bind(rows, with_logits=False) for rows in self._buckets}
        self._select(1, *_PLAIN)

    @property
    def max_rows(self) -> int:
        """Rows of the caches."""
        return self._max_rows

    @property
    def source_capacity(self) -> int:
        """Longest source, in tokens."""
        return self._source_capacity

    @property
    def target_capacity(self) -> int:
        """Most steps that a row can take."""
        return self._target_capacity

    @property
    def top_k(self) -> int:
        """Candidates of a row that a step gives."""
        return self._top_ids.shape[1]

    @property
    def provider(self) -> str:
        """onnxruntime's execution provider."""
        name: str = self._decoder.get_providers()[0]
        return name

    def warm_up(self) -> None:
        """Run the encoder and the step of every bucket once."""
        self.encode([0], [[0] * min(8, self.source_capacity)])
        for rows in self._buckets:
            self.step([0] * rows)
            self._lengths[:], self._cross_lengths[:] = 0, 0
        self._stale = True

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Encode all sources together, as packed tokens: the neighbours cannot change a result."""
        for index, source in enumerate(sources):
            if not 1 <= len(source) <= self.source_capacity:
                raise ValueError(f"source {index} has {len(source)} tokens: 1 to {self.source_capacity}")
        self._stale = True
        packed = pack(sources)
        # (caches, num_heads, tokens, head_dim) and (caches, batch, 1, d_model)
        cross, last = self._encoder.run(["cross", "cross_last"], packed.feeds)
        for row, begin, length in zip(rows, packed.begins.tolist(), packed.lengths.tolist(), strict=True):
            self._cross[:, row, :, :length] = cross[:, :, begin : begin + length]
            self._encoded[row] = self._encodings
            self._encodings += 1
        where = np.array(rows)
        self._last[:, where] = last
        self._lengths[where], self._cross_lengths[where] = 0, packed.lengths - 1

    def encoded(self, row: int) -> list[npt.NDArray[Any]]:
        """Copies of what the row holds of its source, for comparing: keys and values of every layer."""
        length = int(self._cross_lengths[row]) + 1
        # (caches, num_heads, source, head_dim) and (caches, 1, d_model)
        return [self._cross[:, row, :, :length].copy(), self._last[:, row].copy()]

    def copy(self, moves: Sequence[Move]) -> None:
        """Copy the used part of the caches, and the counters; what a row holds already of its source stays."""
        for source, target, kept in moves:
            same_source = self._encoded[source] == self._encoded[target]
            begin, length = kept if same_source else 0, int(self._lengths[source])
            self._self[:, target, :, begin:length] = self._self[:, source, :, begin:length]
            if same_source and length == self._lengths[target]:
                continue
            self._stale = True
            self._lengths[target] = length
            if same_source:
                continue
            length = int(self._cross_lengths[source]) + 1
            self._cross[:, target, :, :length] = self._cross[:, source, :, :length]
            self._last[:, target] = self._last[:, source]
            self._cross_lengths[target], self._encoded[target] = length - 1, self._encoded[source]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """Run one step in place; ValueError where a row's cache is full."""
        if self._stale or (len(tokens), with_logits, with_attention) != self._selected:
            self._select(len(tokens), with_logits, with_attention)
        self._live_ids[:] = tokens
        total = self._longest + 1
        if total > self._target_capacity:
            raise ValueError(f"a row has {total} target tokens: at most {self._target_capacity}")
        self._total[...] = total
        if with_attention:
            # As wide as the longest source: what the step before has allocated may not fit. Comes after all others.
            self._binding.bind_output("cross_attention", "cpu")
        self._decoder.run_with_iobinding(self._binding)
        self._live_lengths += 1
        self._longest = total
        return self._output._replace(attention=self._attention()) if with_attention else self._output

    def _attention(self) -> npt.NDArray[np.float32]:
        """The last layer's cross-attention of the live rows (rows, source), zero beyond each row's source."""
        (weights,) = (output.numpy() for output in self._binding.get_outputs()[-1:])
        rows = len(self._live_ids)
        real = np.arange(weights.shape[1]) <= self._cross_lengths[:rows, None]
        return np.where(real, weights[:rows], np.float32(0))

    def _select(self, rows: int, with_logits: bool, with_attention: bool) -> None:
        """Take the views for ``rows`` live rows, and make the rest of their bucket harmless."""
        if not 1 <= rows <= self._max_rows:
            raise ValueError(f"{rows} rows: 1 to {self._max_rows}")
        bucket = next(size for size in self._buckets if size >= rows)
        for counter in (self._ids, self._lengths, self._cross_lengths):
            counter[rows:bucket] = 0
        # A step writes the last source token's key and value of these rows to the wrong place.
        self._encoded[rows:bucket] = [_NOTHING] * (bucket - rows)
        self._cross_total[...] = int(self._cross_lengths[:rows].max()) + 1
        self._live_ids, self._live_lengths = self._ids[:rows, 0], self._lengths[:rows]
        self._longest = int(self._live_lengths.max())
        logits = self._logits[:rows] if with_logits else None
        self._output = StepOutput(self._top_log_probs[:rows], self._top_ids[:rows], logits)
        key = bucket, with_logits, with_attention
        if key not in self._bindings:
            self._bindings[key] = self._bind(bucket, with_logits=with_logits)
        self._binding = self._bindings[key]
        self._selected, self._stale = (rows, with_logits, with_attention), False

    def _bind(self, rows: int, *, with_logits: bool) -> Any:
        """Bind the first ``rows`` rows of every array; caches are bound as input and output, so written in place.

        Attention is bound by each step that gives it.
        """
        binding = self._decoder.io_binding()
        plain = {
            "input_ids": self._ids[:rows],
            "lengths": self._lengths[:rows],
            "total_length": self._total,
            "cross_lengths": self._cross_lengths[:rows],
            "cross_total": self._cross_total,
            **{f"cross_last_{kind}": last[:rows] for kind, last in zip(self._kinds, self._last, strict=True)},
        }
        for name, array in plain.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for kind, own, cross in zip(self._kinds, self._self, self._cross, strict=True):
            for name, present, cache in (
                (f"past_{kind}", f"present_{kind}", own),
                (f"cross_{kind}", f"present_cross_{kind}", cross),
            ):
                value = ort.OrtValue.ortvalue_from_numpy(cache[:rows])
                binding.bind_ortvalue_input(name, value)
                binding.bind_ortvalue_output(present, value)
        outputs: dict[str, npt.NDArray[Any]] = {"top_log_probs": self._top_log_probs, "top_ids": self._top_ids}
        if with_logits:
            outputs["logits"] = self._logits
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array[:rows]))
        return binding
