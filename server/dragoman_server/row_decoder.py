"""A decoder's session over rows of caches that it writes in place: what the runtimes of all families share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Dimensions
from dragoman_server.device import Device
from dragoman_server.fusing.attentions import WANTS_ATTENTION
from dragoman_server.fusing.fusion import WANTS_LOGITS
from dragoman_server.graphs import CACHE_TYPES
from dragoman_server.row_memory import Array, Binding, HostMemory, Part, RowCaches, RowMemory
from dragoman_server.rows import Ints, Move, Moves, row_buckets
from dragoman_server.sessions import Sessions, fitting_kernels

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


class RowDecoder:
    """An onnxruntime session on a device, and self caches there of ``max_rows`` rows and ``capacity`` positions.

    A step over n rows runs in the smallest bucket of at least n rows; each bucket is bound once, to a prefix of the
    arrays, and a step only rewrites the arrays' content. Families add what else their graph reads: they override the
    methods that say so, and end their own ``__init__`` with ``_bind_buckets``.
    """

    def __init__(
        self,
        decoder: Path,
        *,
        dimensions: Dimensions,
        capacity: int,
        max_rows: int,
        device: Device,
        kernels: Path | None,
        sessions: Sessions,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows = {max_rows}: at least 1")
        self._kernels = fitting_kernels(kernels, decoder, dimensions.head_dim)
        self._memory = _memory(device, self._kernels)
        self._decoder = sessions.of(decoder, device, captured=True, kernels=self._kernels)
        self._max_rows, self._target_capacity = max_rows, capacity
        self._dimensions = dimensions
        self._types = {port.name: CACHE_TYPES.get(port.type) for port in self._decoder.get_inputs()}
        self._kinds = [f"{kind}_{layer}" for layer in range(dimensions.decoder_layers) for kind in ("key", "value")]
        self._self = self._new_caches("past_key_0", max_rows, capacity)
        self._ids = np.zeros((max_rows, 1), np.int64)
        self._lengths = np.zeros(max_rows, np.int32)
        self._origins = np.full(max_rows, _NOTHING)
        """Which beginning, counted from 0, the row goes on from."""
        self._zeros = np.zeros(max_rows, np.int64)
        self._beginnings = 0
        self._longest = 0
        """Most positions of a live row."""
        self._total = np.array(capacity if self._memory.fixed_lengths else 1, np.int32)
        self._top_log_probs = np.zeros((max_rows, dimensions.top_k), np.float32)
        self._top_ids = np.zeros((max_rows, dimensions.top_k), np.int64)
        self._logits: npt.NDArray[np.float32] | None = None
        """(max_rows, vocabulary): made by the first step that is asked for what needs logits."""
        self._buckets = row_buckets(max_rows)

    @property
    def max_rows(self) -> int:
        """Rows of the caches."""
        return self._max_rows

    @property
    def target_capacity(self) -> int:
        """Positions of a row: most tokens that can be fed to it."""
        return self._target_capacity

    @property
    def top_k(self) -> int:
        """Candidates of a row that a step gives."""
        return self._top_ids.shape[1]

    @property
    def kernels(self) -> Path | None:
        """The library of compiled kernels that serves it; None: onnxruntime's operators do."""
        return self._kernels

    @property
    def provider(self) -> str:
        """onnxruntime's execution provider."""
        name: str = self._decoder.get_providers()[0]
        return name

    def copy(self, moves: Sequence[Move]) -> None:
        """Copy the used part of the caches, and the counters; what a row holds already of its beginning stays."""
        moves = Moves.of(moves)
        if moves.siblings:
            self._self.copy_siblings(moves, self._lengths)
            return
        sources, targets = moves.sources, moves.targets
        lengths = self._lengths[sources]
        origins = self._origins[sources]
        same = origins == self._origins[targets]
        if not same.any():
            # Rows of others, as whenever one moves into a hole that another request has left.
            self._self.copy(sources, targets, self._zeros[: len(sources)], lengths)
            self._stale = True
            self._lengths[targets], self._origins[targets] = lengths, origins
            self._copy_beginnings(sources, targets)
            return
        self._self.copy(sources, targets, moves.kept * same, lengths)
        if (same & (lengths == self._lengths[targets])).all():
            return
        self._stale = True
        self._lengths[targets] = lengths
        others = (~same).nonzero()[0]
        if len(others):
            self._origins[targets] = origins
            self._copy_beginnings(sources[others], targets[others])

    def _copy_beginnings(self, sources: Ints, targets: Ints) -> None:
        """Copy what is not in the self caches and never changes while a row grows."""

    def _new_caches(self, name: str, rows: int, time: int) -> RowCaches:
        """The caches of all layers, keys and values by turns, of the type of the graph's input ``name``."""
        dimensions = self._dimensions
        shape = (len(self._kinds), rows, dimensions.num_heads, time, dimensions.head_dim)
        return self._memory.caches(shape, self._type(name))

    def _type(self, name: str) -> str:
        """The element type of a graph's input, by numpy's name."""
        found = self._types[name]
        assert found is not None, "a checked bundle has caches of known types"
        return found

    def _begin(self, rows: list[int], length: int) -> None:
        """The rows start over, each by itself, with that many positions."""
        self._stale = True
        # One by one, which takes less time than arrays do even where two dozen join.
        for origin, row in enumerate(rows, self._beginnings):
            self._origins[row], self._lengths[row] = origin, length
        self._beginnings += len(rows)

    def _bind_buckets(self) -> None:
        self._bindings = {(rows, *_PLAIN): self._bind(rows, *_PLAIN) for rows in self._buckets}
        self._select(1, *_PLAIN)

    def _prepare(self, tokens: Sequence[int] | npt.NDArray[np.int64], with_logits: bool, with_attention: bool) -> None:
        """Make the next step be of these tokens; ValueError where a row's cache is full."""
        if self._stale or (len(tokens), with_logits, with_attention) != self._selected:
            self._select(len(tokens), with_logits, with_attention)
        self._live_ids[:] = tokens
        total = self._longest + 1
        if total > self._target_capacity:
            raise ValueError(f"a row has {total} target tokens: at most {self._target_capacity}")
        if not self._memory.fixed_lengths:
            self._total[...] = total

    def _run(self) -> StepOutput:
        self._binding.run()
        return self._grown()

    def _grown(self) -> StepOutput:
        """What the step that was just run gave; each live row is longer by one position."""
        self._longest += 1
        if len(self._live_lengths) == 1:  # a number costs a tenth of an array's sum
            self._live_lengths[0] = self._longest
        else:
            self._live_lengths += 1
        return self._output

    def _select(self, rows: int, with_logits: bool, with_attention: bool) -> None:
        """Take the views for ``rows`` live rows, and make the rest of their bucket harmless."""
        if not 1 <= rows <= self._max_rows:
            raise ValueError(f"{rows} rows: 1 to {self._max_rows}")
        bucket = self._buckets[bisect_left(self._buckets, rows)]
        if rows < bucket:
            for counter in self._counters():
                counter[rows:bucket] = 0
            # A step writes into the caches of these rows, too.
            self._origins[rows:bucket] = _NOTHING
        self._live_ids, self._live_lengths = self._ids[:rows, 0], self._lengths[:rows]
        self._longest = int(self._live_lengths.max())
        self._selecting(rows)
        logits = self._all_logits()[:rows] if with_logits else None
        self._output = StepOutput(self._top_log_probs[:rows], self._top_ids[:rows], logits)
        key = bucket, with_logits, with_attention
        if key not in self._bindings:
            self._bindings[key] = self._bind(*key)
        self._binding = self._bindings[key]
        self._selected, self._stale = (rows, with_logits, with_attention), False

    def _all_logits(self) -> npt.NDArray[np.float32]:
        if self._logits is None:
            self._logits = np.zeros((self._max_rows, self._dimensions.vocabulary), np.float32)
        return self._logits

    def _selecting(self, rows: int) -> None:
        """So many rows are live from the next step on."""

    def _counters(self) -> list[Array]:
        """Arrays (rows, ...) that are to be zero for rows that are not live."""
        return [self._ids, self._lengths]

    def _inputs(self, rows: int) -> dict[str, Array]:
        """What a step over so many rows reads, by the graph's names."""
        return {"input_ids": self._ids[:rows], "lengths": self._lengths[:rows], "total_length": self._total}

    def _wanted(self, with_logits: bool, with_attention: bool) -> dict[str, Array]:
        """What a rewritten graph is told of it; others give both in any case."""
        wanted = {WANTS_LOGITS: with_logits, WANTS_ATTENTION: with_attention}
        return {name: np.array(int(yes)) for name, yes in wanted.items() if name in self._types}

    def _parts(self) -> Iterator[Part]:
        """What a step reads and writes where it is."""
        yield from self._cache_parts(self._self)

    def _cache_parts(self, caches: RowCaches) -> Iterator[Part]:
        """The self caches of all layers, in the steps of rows or in those of one prompt."""
        for number, kind in enumerate(self._kinds):
            yield Part(f"past_{kind}", f"present_{kind}", caches, number)

    def _bind(self, rows: int, with_logits: bool, with_attention: bool) -> Binding:
        """Bind the first ``rows`` rows of everything. Attention is bound by each step that gives it."""
        outputs: dict[str, Array] = {"top_log_probs": self._top_log_probs, "top_ids": self._top_ids}
        if with_logits:
            outputs["logits"] = self._all_logits()
        return self._memory.bind(
            self._decoder,
            rows,
            self._inputs(rows) | self._wanted(with_logits, with_attention),
            self._parts(),
            {name: out[:rows] for name, out in outputs.items()},
            # Only what warm-up runs: nothing is captured while requests wait.
            steady=not (with_logits or with_attention),
        )


def _memory(device: Device, library: Path | None) -> RowMemory:
    if device.resident:
        from dragoman_server.device_memory import DeviceMemory  # noqa: PLC0415  (for few servers)

        return DeviceMemory(device)
    return HostMemory(library)
