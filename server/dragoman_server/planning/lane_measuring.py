"""What steps and encodings take: the engine itself, kept at so many requests at one time."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dragoman_server.errors import ServerError
from dragoman_server.lanes import LaneEngine, LaneState
from dragoman_server.planning.profile import Length, Linear
from dragoman_server.planning.subject import AnySubmission, Subject

_PATIENCE_SECONDS = 120.0
_FEW_TOKENS = 8
_LEAST_ENDED = 4
"""Requests of a window, however long they take."""


@dataclass(frozen=True)
class Window:
    """Some time in which a fixed number of requests was in flight."""

    rows: float
    """Of a step, on average; 0 where there are no steps."""
    step_seconds: float
    ended: Sequence[AnySubmission]
    """The requests that were answered meanwhile."""

    @property
    def lengths(self) -> list[Length]:
        """Of the requests that were answered."""
        return [Length(len(request.source_ids), max(1, request.steps)) for request in self.ended]


def keep_busy(engine: LaneEngine[AnySubmission], subject: Subject, *, in_flight: int, seconds: float) -> Window:
    """Keep so many requests in flight until each place was used once, and for ``seconds`` from then on.

    For longer where hardly any is answered meanwhile.

    Raises ServerError where a request fails, TimeoutError where the engine does not come to it.
    """
    loop = _ClosedLoop(engine.submit, subject)
    for _ in range(in_flight):
        loop.ask()
    loop.wait_for(in_flight)
    before = _reading(engine)
    first = len(loop.ended)
    time.sleep(seconds)
    loop.wait_for(first + _LEAST_ENDED)
    ended = loop.ended[first:]
    after = _reading(engine)
    loop.stop()
    steps, rows, took = (last - one for last, one in zip(after, before, strict=True))
    return Window(rows / steps if steps else 0.0, took / steps if steps else 0.0, ended)


class _ClosedLoop:
    """Whoever is answered asks again. ``ask`` may be called by any thread."""

    def __init__(self, submit: Callable[[AnySubmission], None], subject: Subject) -> None:
        self.ended: list[AnySubmission] = []
        self._submit, self._subject = submit, subject
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._under_way = 0
        self._stopped = False
        self._error: Exception | None = None

    def ask(self) -> None:
        """Submit the next text."""
        with self._changed:
            if self._stopped:
                return
            self._under_way += 1
        sources = self._subject.sources
        source = sources[next(self._numbers) % len(sources)]
        held: list[AnySubmission] = []
        request = self._subject.submission(source, lambda outcome: self._hear(held[0], outcome))
        held.append(request)
        try:
            self._submit(request)
        except ServerError as error:
            self._hear(request, error)

    def wait_for(self, count: int) -> None:
        """Until so many have ended."""
        self._wait(lambda: len(self.ended) >= count)

    def stop(self) -> None:
        """Ask no more, and wait for the last answer."""
        self._stopped = True
        self._wait(lambda: not self._under_way)

    def _wait(self, enough: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._error is not None or enough(), _PATIENCE_SECONDS):
                raise TimeoutError(f"{len(self.ended)} requests were answered in {_PATIENCE_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error

    def _hear(self, request: AnySubmission, outcome: object) -> None:
        with self._changed:
            self._under_way -= 1
            if isinstance(outcome, ServerError):
                self._error, self._stopped = outcome, True
            else:
                self.ended.append(request)
            self._changed.notify()
        self.ask()


def _reading(engine: LaneEngine[AnySubmission]) -> tuple[int, float, float]:
    """Steps so far, the sum of their rows, and of their seconds."""
    lanes: Sequence[LaneState] = engine.state().lanes
    return (
        sum(lane.meter.step_seconds.count for lane in lanes),
        sum(lane.meter.batch_rows.sum for lane in lanes),
        sum(lane.meter.step_seconds.sum for lane in lanes),
    )


def encoding_fit(windows: Sequence[Window]) -> Linear:
    """A line through (tokens, seconds) of all that were encoded together; neither part is below 0."""
    groups: dict[tuple[int, float], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for request in itertools.chain.from_iterable(window.ended for window in windows):
        key = request.lane, request.joined
        groups[key] = groups[key][0] + len(request.source_ids), request.encode_ms / 1e3
    tokens, seconds = np.array(list(groups.values()), np.float64).T  # (groups,) each
    # Short ones and long ones count alike: what deviates grows with the tokens.
    weights = 1 / (tokens + _FEW_TOKENS)
    matrix = np.stack([np.ones_like(tokens), tokens], axis=1) * weights[:, None]  # (groups, 2)
    (fixed, each), *_ = np.linalg.lstsq(matrix, seconds * weights, rcond=None)
    if each < 0 or not tokens.std():
        return Linear(float(seconds.mean()), 0.0)
    if fixed < 0:
        return Linear(0.0, float(seconds.sum() / tokens.sum()))
    return Linear(float(fixed), float(each))
