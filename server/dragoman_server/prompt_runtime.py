"""Onnxruntime's way of running a decoder alone: prompts are written chunk by chunk beside the rows, then moved in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.device import CPU, Device
from dragoman_server.row_decoder import RowDecoder, StepOutput
from dragoman_server.row_memory import Array, Binding
from dragoman_server.sessions import Sessions

PREFILL_CHUNK = 64


class OnnxPromptRuntime(RowDecoder):
    """One onnxruntime session on a device, caches there that it writes in place, and a staging cache of one row.

    A chunk is always of one prompt by itself: the operator takes several tokens of one row only, and so a prompt's
    caches do not depend on who else is there. ``kernels`` is a library of compiled operators; None: onnxruntime's own.
    ``sessions`` makes the session; None: it is not shared with other runtimes.
    """

    def __init__(
        self,
        decoder: Path,
        *,
        dimensions: Dimensions,
        limits: Limits,
        max_rows: int,
        prefill_chunk: int = PREFILL_CHUNK,
        device: Device = CPU,
        kernels: Path | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        if prefill_chunk < 1:
            raise ValueError(f"prefill_chunk = {prefill_chunk}: at least 1")
        super().__init__(
            decoder,
            dimensions=dimensions,
            capacity=limits.target_tokens,
            max_rows=max_rows,
            device=device,
            kernels=kernels,
            sessions=sessions or Sessions(),
        )
        self._prefill_chunk = prefill_chunk
        self._staging = self._new_caches("past_key_0", 1, limits.target_tokens)
        self._staged = 0
        """Positions of the staging cache that hold something."""
        self._chunk_ids = np.zeros((1, prefill_chunk), np.int64)
        self._chunk_begin, self._chunk_end = np.zeros(1, np.int32), np.array(1, np.int32)
        self._unread = np.zeros((1, dimensions.top_k), np.float32), np.zeros((1, dimensions.top_k), np.int64)
        self._chunk_bindings: dict[int, Binding] = {}
        """By the tokens of a chunk."""
        self._bind_buckets()

    @property
    def prefill_chunk(self) -> int:
        """Most tokens of a prompt that are prefilled at one time."""
        return self._prefill_chunk

    def warm_up(self) -> None:
        """Run a chunk, and the step of every bucket once."""
        self.prefill([0] * min(self._prefill_chunk, self._target_capacity), 0)
        self._staged = 0
        # The largest first: what it has computed with does for all others, where each larger one would take its own.
        for rows in reversed(self._buckets):
            self.step([0] * rows)
            self._lengths[:] = 0
        self._stale = True

    def prefill(self, tokens: Sequence[int], begin: int) -> None:
        """Write a chunk to the positions from ``begin`` on of the staging cache; what stood there is forgotten.

        ValueError where the chunk is too long, does not fit the cache, or leaves positions out.
        """
        count, end = len(tokens), begin + len(tokens)
        if not 1 <= count <= self._prefill_chunk:
            raise ValueError(f"a chunk of {count} tokens: 1 to {self._prefill_chunk}")
        if not 0 <= begin <= self._staged:
            raise ValueError(f"a chunk begins at {begin}: 0 to {self._staged}, the positions that are staged")
        if end > self._target_capacity:
            raise ValueError(f"a prompt has {end} tokens: at most {self._target_capacity}")
        if count not in self._chunk_bindings:
            self._chunk_bindings[count] = self._bind_chunk(count)
        self._chunk_ids[0, :count] = tokens
        self._chunk_begin[...], self._chunk_end[...] = begin, end
        self._chunk_bindings[count].run()
        self._staged = end

    def admit(self, row: int, length: int) -> None:
        """The row starts over with the first ``length`` staged positions, which may be none."""
        if not 0 <= row < self._max_rows:
            raise ValueError(f"row {row}: 0 to {self._max_rows - 1}")
        if not 0 <= length <= self._staged:
            raise ValueError(f"{length} positions of a prompt: 0 to {self._staged}, those that are staged")
        self._self.take(row, self._staging, length)
        self._begin([row], length)

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """Run one step in place; ValueError where a row's cache is full, or attention to a source is asked for."""
        if with_attention:
            raise ValueError("with_attention: a decoder alone has no source to attend to")
        self._prepare(tokens, with_logits, False)
        return self._run()

    def _bind_chunk(self, count: int) -> Binding:
        inputs: dict[str, Array] = {
            "input_ids": self._chunk_ids[:, :count],
            "lengths": self._chunk_begin,
            "total_length": self._chunk_end,
            **self._wanted(False, False),
        }
        unread: dict[str, Array] = dict(zip(("top_log_probs", "top_ids"), self._unread, strict=True))
        return self._memory.bind(self._decoder, 1, inputs, self._cache_parts(self._staging), unread, steady=False)
