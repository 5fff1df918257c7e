"""Times every run of an onnxruntime session, from outside: what a lane does between two runs is everything else."""

from __future__ import annotations

import cProfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import onnxruntime as ort


class Span(NamedTuple):
    """One run, in seconds: on the wall's clock, and of the thread's processor time."""

    began: float
    ended: float
    cpu_began: float
    cpu_ended: float


@dataclass
class Clock:
    """The runs of all lanes, by thread. With ``profile`` the first thread that runs is profiled from then on."""

    profile: cProfile.Profile | None = None
    spans: dict[int, list[Span]] = field(default_factory=lambda: defaultdict(list))

    def note(self, span: Span) -> None:
        """Take in a run of the calling thread."""
        thread = threading.get_ident()
        if self.profile is not None and not self.spans:
            self.profile.enable()
        self.spans[thread].append(span)


class TimedSession:
    """Stands in for an onnxruntime session and times its runs."""

    def __init__(self, session: ort.InferenceSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *arguments: Any, **options: Any) -> Any:
        """As the session's own."""
        return self._timed(self._session.run, *arguments, **options)

    def run_with_iobinding(self, *arguments: Any, **options: Any) -> Any:
        """As the session's own."""
        return self._timed(self._session.run_with_iobinding, *arguments, **options)

    def _timed(self, run: Any, *arguments: Any, **options: Any) -> Any:
        began, cpu_began = time.perf_counter(), time.thread_time()
        result = run(*arguments, **options)
        cpu_ended, ended = time.thread_time(), time.perf_counter()
        self._clock.note(Span(began, ended, cpu_began, cpu_ended))
        return result


def watch(runtime: object, clock: Clock) -> None:
    """Put a ``TimedSession`` before every session that the runtime or its bindings hold as an attribute.

    There must be some; and the bindings of a step hold its session, too.
    """
    sessions = {name: value for name, value in vars(runtime).items() if isinstance(value, ort.InferenceSession)}
    if not sessions:
        raise TypeError(f"{type(runtime).__name__} holds no session as an attribute")
    for name, session in sessions.items():
        setattr(runtime, name, TimedSession(session, clock))
    for binding in getattr(runtime, "_bindings", {}).values():
        binding.session = TimedSession(binding.session, clock)


@dataclass(frozen=True)
class Shares:
    """How a lane's time divides, from its first run's begin to its last run's end."""

    runs: int
    wall: float
    """Seconds."""
    cpu: float
    wall_outside: float
    """Share of the wall's time that is outside all runs; waiting for another lane's Python included."""
    cpu_outside: float
    """Share of the thread's processor time that is outside all runs."""


def shares(spans: Sequence[Span]) -> Shares:
    """Of one lane's runs, in order; ValueError for fewer than two."""
    if len(spans) < 2:
        raise ValueError(f"{len(spans)} runs: at least 2")
    wall, cpu = spans[-1].ended - spans[0].began, spans[-1].cpu_ended - spans[0].cpu_began
    inside = sum(span.ended - span.began for span in spans)
    cpu_inside = sum(span.cpu_ended - span.cpu_began for span in spans)
    return Shares(len(spans), wall, cpu, 1 - inside / wall, 1 - cpu_inside / cpu)
