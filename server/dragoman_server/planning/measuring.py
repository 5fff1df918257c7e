"""A profile is measured: the engine at several numbers of rows, then a server process through gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

from dragoman_server import machine
from dragoman_server.building import build_host
from dragoman_server.independence.sentences import own_sentences
from dragoman_server.lanes import LaneEngine
from dragoman_server.memory_budget import memory_need
from dragoman_server.planning.call_measuring import measure_calls
from dragoman_server.planning.lane_measuring import Window, encoding_fit, keep_busy
from dragoman_server.planning.pilots import RUNS, Pilots
from dragoman_server.planning.profile import Linear, Memory, Profile, StepPoint
from dragoman_server.planning.server_process import serving
from dragoman_server.planning.subject import AnySubmission, Subject, subject_of
from dragoman_server.progress import Stages

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.model_host import ModelHost
    from dragoman_server.settings import Settings

_TEXTS = 400
_LENGTHS = 500
"""Kept in the profile."""
_ALONE_ROWS = (1, 8, 32)
"""At which a lane by itself is compared with one beside others."""
_PILOT_ROUNDS = 3


def own_texts() -> list[str]:
    """English sentences of our own, of 1 to 40 words."""
    return [one.text for one in own_sentences(_TEXTS, seed=7, languages=["en"])]


def measure(
    bundle: LoadedBundle,
    settings: Settings,
    *,
    texts: Sequence[str] = (),
    seconds: float = 0.5,
    pilot_rounds: int = _PILOT_ROUNDS,
    stages: Stages | None = None,
) -> Profile:
    """The bundle as a server with these settings (lanes, rows, queue) runs it; two minutes with the shipped models.

    No ``texts``: sentences of our own, in English. Each number of rows is kept up for ``seconds``, callers for five
    times as long, each run of a pilot for eight times. Nothing else should run meanwhile. Raises InvalidArgument where
    no text fits, ServerError where the model fails, and ServerFailed.
    """
    stages = stages or Stages()
    process = machine.resident_memory() or 0
    host = build_host(1, bundle, settings)
    subject = subject_of(host, list(texts) or own_texts())
    rows = [row for row in (1 << power for power in range(11)) if row < settings.max_rows] + [settings.max_rows]
    with stages.stage("the engine, all lanes", len(rows)) as done:
        together = _windows(host, subject, rows, seconds, done)
    alone_at = [row for row in rows if row in _ALONE_ROWS]
    with stages.stage("the engine, one lane", len(alone_at)) as done:
        single = build_host(1, bundle, settings.model_copy(update={"lanes": 1}))
        by_itself = _windows(single, subject, alone_at, seconds, done)
    cores = machine.usable_cores()
    # More lanes than cores wait for one another: the simulation lets them, so it is taken out here.
    shared = max(1.0, settings.lanes / cores)
    encoding = encoding_fit(together)
    steps = [StepPoint(row, one.step_seconds / shared) for row, one in zip(rows, together, strict=True) if one.rows]
    lengths = list(chain.from_iterable(window.lengths for window in together))
    profile = Profile(
        model=bundle.manifest.name,
        version=bundle.path.name,
        precision=bundle.precision,
        machine=machine.processor() or "",
        family=subject.family,
        cores=cores,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        join_tokens=subject.join_tokens,
        steps=tuple(steps),
        encoding=Linear(encoding.fixed / shared, encoding.each / shared),
        crowding=_crowding([together[rows.index(row)] for row in alone_at], by_itself) if settings.lanes > 1 else 1.0,
        call_alone=0.0,
        call_busy=0.0,
        lengths=tuple(lengths[:: max(1, len(lengths) // _LENGTHS)][:_LENGTHS]),
        memory=_memory(bundle, settings, process),
    )
    with serving(bundle.path, bundle.manifest.name, settings) as address:
        with stages.stage("a server through gRPC"):
            calls = measure_calls(address, subject, profile, seconds=5 * seconds)
        found = {"call_alone": calls.alone, "call_busy": calls.busy, "wake": calls.wake, "caller": calls.caller}
        profile = profile.model_copy(update=found)
        if not pilot_rounds:
            return profile
        pilots = Pilots(address, subject, profile)
        with stages.stage("the same under random arrivals", pilot_rounds * RUNS) as done:
            for _ in range(pilot_rounds):
                pilots.round(8 * seconds, done)
    return profile.model_copy(update={"pilots": pilots.found()})


def _windows(
    host: ModelHost, subject: Subject, rows: Sequence[int], seconds: float, done: Callable[[int], None]
) -> list[Window]:
    """One for each number of rows of every lane. The host is stopped at the end."""
    # Every host's engine is one; its protocol says less, so that tests of the service can do with less.
    engine = cast(LaneEngine[AnySubmission], host.engine)
    try:
        engine.start()
        windows = []
        for row in rows:
            windows.append(keep_busy(engine, subject, in_flight=row * host.lanes, seconds=seconds))
            done(1)
        return windows
    finally:
        host.stop(0)


def _crowding(beside: Sequence[Window], alone: Sequence[Window]) -> float:
    """How much longer a lane takes beside the others: of steps at the same rows, or of passes over the same tokens."""
    if alone[0].rows:
        ratios = [other.step_seconds / one.step_seconds for other, one in zip(beside, alone, strict=True)]
    else:
        ones, others = encoding_fit(alone), encoding_fit(beside)
        tokens = [sum(length.source for length in one.lengths) / max(1, len(one.lengths)) for one in alone]
        ratios = [others.at(count) / ones.at(count) for count in tokens]
    return max(1.0, sum(ratios) / len(ratios))


def _memory(bundle: LoadedBundle, settings: Settings, process: int) -> Memory:
    one, two = (memory_need(bundle, lanes=1, max_rows=rows) for rows in (settings.max_rows, settings.max_rows + 1))
    row = two.total - one.total
    # Weights are there once, however many lanes there are.
    return Memory(process=process + one.weights, lane=one.total - one.weights - settings.max_rows * row, row=row)
