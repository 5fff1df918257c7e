"""A toy model of texts behind rows that know nothing but what was fed to them, and slow decoding that slides."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.sampling import distribution, draw, uniforms
from dragoman_server.rows import Move
from dragoman_server.runtime import StepOutput
from tests.unit.server.fake_runtime import PATIENCE
from tests.unit.server.reference import may_come
from tests.unit.server.toy_model import BOS, EOS, TOP_K, Floats, log_softmax, penalised, toy_logits

BROKEN = 99
"""A prompt with this token, which the model never produces, cannot be prefilled, unless it is the last."""


@dataclass(frozen=True)
class PromptToy:
    """What the toy model says after a prompt, with the options' penalties."""

    prompt: tuple[int, ...]
    options: DecodingOptions | None = None

    def __call__(self, history: tuple[int, ...]) -> Floats:
        logits = toy_logits((), (*self.prompt, *history)).astype(np.float64)
        if self.options:
            penalised(logits, (*self.options.earlier, *history), self.options)
        return log_softmax(logits.astype(np.float32))


class ToyPromptRuntime:
    """Prompts in, chunk by chunk; a row that leaks or is mixed up shows.

    While ``gate`` is a semaphore, each step and each chunk needs a permit, so a test decides when one ends.
    """

    top_k = TOP_K
    kernels: Path | None = None

    def __init__(
        self, max_rows: int, *, capacity: int = 40, chunk: int = 4, gate: threading.Semaphore | None = None
    ) -> None:
        self.max_rows, self.target_capacity, self.prefill_chunk, self.gate = max_rows, capacity, chunk, gate
        self.events: list[str] = []
        """What was done: "prefill <begin> <end>", "admit <length>", "step <rows>"."""
        self.working = threading.Semaphore(0)
        """Released whenever a step or a chunk begins."""
        self._staged: tuple[int, ...] = ()
        self._rows: list[tuple[int, ...]] = [()] * max_rows

    def warm_up(self) -> None: ...

    def prefill(self, tokens: Sequence[int], begin: int) -> None:
        self._begin(f"prefill {begin} {begin + len(tokens)}")
        assert 1 <= len(tokens) <= self.prefill_chunk
        assert begin % self.prefill_chunk == 0
        assert begin <= len(self._staged)
        if BROKEN in tokens:
            raise RuntimeError("prefill: secret text")
        self._staged = (*self._staged[:begin], *tokens)

    def admit(self, row: int, length: int) -> None:
        self.events.append(f"admit {length}")
        assert length <= len(self._staged)
        self._rows[row] = self._staged[:length]

    def copy(self, moves: Sequence[Move]) -> None:
        sources, targets = [move.source for move in moves], [move.target for move in moves]
        assert not set(sources) & set(targets)
        assert len(set(targets)) == len(targets)
        for source, target, kept in moves:
            assert self._rows[source][:kept] == self._rows[target][:kept]
            self._rows[target] = self._rows[source]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        assert not with_attention
        fed = np.asarray(tokens).tolist()
        self._begin(f"step {len(fed)}")
        self._rows[: len(fed)] = [(*row, token) for row, token in zip(self._rows, fed, strict=False)]
        live = self._rows[: len(fed)]
        assert all(row[0] == BOS and len(row) <= self.target_capacity for row in live)
        logits = np.array([toy_logits((), row) for row in live])
        log_probs = np.array([log_softmax(row) for row in logits])
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :TOP_K]
        return StepOutput(np.take_along_axis(log_probs, ids, axis=1), ids, logits if with_logits else None)

    def _begin(self, event: str) -> None:
        self.events.append(event)
        self.working.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE)


@dataclass
class Slid:
    """A text beyond its window."""

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    windows: int = 1


def slide(prompt: Sequence[int], options: DecodingOptions, window: int) -> Slid:
    """Greedy or one sample, token by token; whenever the window is full its last half is what the model reads."""
    result, read = Slid(), list(prompt)
    while len(result.tokens) < options.max_length:
        if len(read) == window + 1:
            text = [*prompt[1:], *result.tokens]
            read = [BOS, *text[-(window - window // 2) :]]
            result.windows += 1
        done = tuple(result.tokens)
        logits = toy_logits((), tuple(read)).astype(np.float64)
        penalised(logits, done, options)
        log_probs = log_softmax(logits.astype(np.float32))
        chosen = np.full_like(log_probs, -np.inf)
        possible = [token for token in range(len(log_probs)) if may_come(done, token, options)] or [EOS]
        chosen[possible] = log_probs[possible]
        token = int(chosen.argmax())
        if options.sampling:
            number = uniforms(options.sampling.seed, 0, options.max_length)[len(done)]
            token = draw(distribution(chosen, options.sampling), number)
        result.log_probs.append(float(log_probs[token]))
        if token == EOS:
            break
        result.tokens.append(token)
        read.append(token)
    return result
