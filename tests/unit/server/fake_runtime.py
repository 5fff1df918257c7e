"""A runtime that a test holds in its hands, and callers that wait for their outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.engine import DecodingEngine, Engine
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.rows import Move
from dragoman_server.runtime import StepOutput

BOS, EOS, NAN, BREAK_STEP, BREAK_ENCODE = 2, 3, 90, 91, 92
PATIENCE = 20.0


class FakeRuntime:
    """Counts up from the source's second token, for as many steps as its first; checks what it is fed.

    While ``gate`` is a semaphore, each step needs a permit, so a test decides when a step ends.
    """

    kernels: Path | None = None

    def __init__(self, max_rows: int, gate: threading.Semaphore | None = None) -> None:
        self.max_rows, self.source_capacity, self.target_capacity, self.top_k = max_rows, 64, 200, 2
        self.gate = gate
        self.encoded: list[Sequence[int]] = []
        self.warm = False
        self.stepping = threading.Semaphore(0)
        self._rows: list[tuple[Sequence[int], int]] = [((), 0)] * max_rows

    def warm_up(self) -> None:
        self.warm = True

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        self.encoded += sources
        if any(BREAK_ENCODE in source for source in sources):
            raise RuntimeError("encoder: secret text")
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = (source, 0)

    def copy(self, moves: Sequence[Move]) -> None:
        sources, targets = [move.source for move in moves], [move.target for move in moves]
        assert not set(sources) & set(targets)
        for source, target in zip(sources, targets, strict=True):
            self._rows[target] = self._rows[source]

    def step(
        self,
        tokens: Sequence[int] | npt.NDArray[np.int64],
        *,
        with_logits: bool = False,
        with_attention: bool = False,
    ) -> StepOutput:
        assert not with_logits, "greedy needs none"
        assert not with_attention
        self.stepping.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE)
        ids, scores = [], []
        for row, token in enumerate(tokens):
            (length, first, *_), count = self._rows[row]
            assert token == (first + count - 1 if count else BOS), "a row got another row's token"
            if first == BREAK_STEP and count == 1:
                raise RuntimeError("step: secret text")
            ids.append([EOS if count == length else first + count, 0])
            scores.append([np.nan if first == NAN and count == 1 else -0.5, -1.0])
            self._rows[row] = (self._rows[row][0], count + 1)
        return StepOutput(np.array(scores, np.float32), np.array(ids, np.int64))


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TimedRuntime(FakeRuntime):
    """Takes ``token_seconds`` for each token that it encodes, and for a step ``base_seconds`` and ``row_seconds``."""

    def __init__(
        self,
        max_rows: int,
        clock: Clock,
        gate: threading.Semaphore | None = None,
        *,
        base_seconds: float = 0.125,
        row_seconds: float = 0.0,
        token_seconds: float = 0.0,
    ) -> None:
        super().__init__(max_rows, gate)
        self._clock = clock
        self._base_seconds, self._row_seconds, self._token_seconds = base_seconds, row_seconds, token_seconds

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        super().encode(rows, sources)
        self._clock.now += self._token_seconds * sum(map(len, sources))

    def step(
        self,
        tokens: Sequence[int] | npt.NDArray[np.int64],
        *,
        with_logits: bool = False,
        with_attention: bool = False,
    ) -> StepOutput:
        output = super().step(tokens, with_logits=with_logits, with_attention=with_attention)
        self._clock.now += self._base_seconds + self._row_seconds * len(tokens)
        return output


@dataclass
class Caller:
    """A request and what came of it."""

    source: list[int]
    options: DecodingOptions = DecodingOptions(max_length=200)  # noqa: RUF009  (frozen)
    deadline: float | None = None
    priority: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.request = Request(self.source, self.options, self._reply, deadline=self.deadline, priority=self.priority)

    def _reply(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    def result(self) -> Outcome:
        assert self.ended.wait(PATIENCE)
        assert len(self.outcomes) == 1
        return self.outcomes[0]

    def completion(self) -> Completion:
        outcome = self.result()
        assert isinstance(outcome, Completion)
        return outcome

    def answer(self) -> Answer:
        return self.completion().best


def counting(
    length: int, first: int = 100, max_length: int = 200, deadline: float | None = None, priority: int = 0
) -> Caller:
    return Caller([length, first, EOS], DecodingOptions(max_length=max_length), deadline, priority)


Start = Callable[..., Engine]
"""Builds and starts an engine over the runtimes given."""


def submit(engine: Engine, *callers: Caller) -> None:
    for caller in callers:
        engine.submit(caller.request)


def wait_for_step(runtime: FakeRuntime) -> None:
    """Until a step has begun that had not been waited for."""
    assert runtime.stepping.acquire(timeout=PATIENCE)


def assert_empty(engine: DecodingEngine) -> None:
    state = engine.state()
    assert (state.waiting, state.waiting_tokens, state.running, state.rows_used) == (0, 0, 0, 0)
