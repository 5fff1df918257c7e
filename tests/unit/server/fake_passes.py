"""A runtime of passes that a test holds in its hands, and callers that wait for their outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dragoman_server.pass_engine import PassEngine
from dragoman_server.pass_request import PassCompletion, PassOutcome, PassRequest
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput
from tests.unit.server.fake_runtime import PATIENCE, Clock

BREAKS, NAN = 91, 92


class FakePassRuntime:
    """States are the ids; a label's logit is their sum. While ``gate`` is a semaphore, each pass needs a permit.

    With a ``clock``, each token takes ``token_seconds`` of its time.
    """

    def __init__(
        self,
        max_rows: int = 4,
        gate: threading.Semaphore | None = None,
        clock: Clock | None = None,
        token_seconds: float = 0.0,
    ) -> None:
        self.max_rows, self.source_capacity = max_rows, 64
        self.gate, self._clock, self._token_seconds = gate, clock, token_seconds
        self.passes: list[list[Sequence[int]]] = []
        self.warm = False
        self.reading = threading.Semaphore(0)

    def warm_up(self) -> None:
        self.warm = True

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        assert 1 <= len(inputs) <= self.max_rows
        self.passes.append([given.ids for given in inputs])
        self.reading.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE)
        if self._clock is not None:
            self._clock.now += self._token_seconds * sum(len(given.ids) for given in inputs)
        if any(BREAKS in given.ids for given in inputs):
            raise RuntimeError("encoder: secret text")
        return [expected(given) for given in inputs]


def expected(given: EncoderInput) -> EncoderOutput:
    """What a text gives, whatever else is in the pass."""
    states = np.array(given.ids, np.float32)[:, None]
    if NAN in given.ids:
        states[0] = np.nan
    return EncoderOutput(states, label_logits=states.sum(axis=0))


@dataclass
class Reader:
    """A request to read and what came of it."""

    ids: list[int]
    deadline: float | None = None
    priority: int = 0
    outcomes: list[PassOutcome] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.request = PassRequest.of(EncoderInput(self.ids), self._reply, self.deadline, self.priority)

    def _reply(self, outcome: PassOutcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    def result(self) -> PassOutcome:
        assert self.ended.wait(PATIENCE)
        assert len(self.outcomes) == 1
        return self.outcomes[0]

    def completion(self) -> PassCompletion:
        outcome = self.result()
        assert isinstance(outcome, PassCompletion)
        return outcome

    def assert_read(self) -> None:
        np.testing.assert_array_equal(self.completion().output.states[:, 0], self.ids)


StartPasses = Callable[..., PassEngine]
"""Builds and starts an engine over the runtimes given."""


def submit(engine: PassEngine, *readers: Reader) -> None:
    for reader in readers:
        engine.submit(reader.request)


def wait_for_pass(runtime: FakePassRuntime) -> None:
    """Until a pass has begun that had not been waited for."""
    assert runtime.reading.acquire(timeout=PATIENCE)


def assert_empty(engine: PassEngine) -> None:
    state = engine.state()
    assert (state.waiting, state.waiting_tokens, state.running, state.rows_used) == (0, 0, 0, 0)
