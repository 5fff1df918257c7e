"""A load test from end to end: the answers alone first, then every point of the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from dragoman.connection import Connection
from dragoman.errors import InvalidArgument, Violation
from dragoman.load.answers import Expected
from dragoman.load.arrivals import poisson
from dragoman.load.calling import Calls
from dragoman.load.driving import Driver
from dragoman.load.knee import capacity
from dragoman.load.measurement import Measurement, Mode, Objectives, measure, shown_load
from dragoman.load.percentiles import Summary
from dragoman.load.result import LoadResult, Served
from dragoman.load.samples import Tally, Window
from dragoman.load.workload import WORKLOADS, Workload
from dragoman.values import Model

_TICK = 0.25
"""Seconds between two looks of whoever watches."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Arrivals a second: a number, or a share of the capacity that the closed loops have shown."""

    value: float
    relative: bool = False

    def of(self, most: float | None) -> float:
        """Arrivals a second; raises InvalidArgument for a share where no capacity was measured."""
        if not self.relative:
            return self.value
        if not most:
            raise InvalidArgument([Violation("--rate", f"{100 * self.value:g}%", "a number: nothing was answered")])
        return self.value * most


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is measured, and how."""

    users: Sequence[int]
    """Of the closed loops."""
    rates: Sequence[Rate]
    """Of the open loops, which come after them."""
    window: Window
    objectives: Objectives
    seed: int = 1
    connections: int = 4
    timeout: float = 30.0
    price_per_hour: float = 0.1
    meters: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    """Processor seconds so far of others than the generator, such as "server"."""


class Watcher(Protocol):
    """Whoever looks on."""

    def begin(self, title: str, total: float) -> None:
        """Something begins that takes ``total`` seconds, or so many requests."""

    def advance(self, done: float, tally: Tally) -> None:
        """It has come so far."""

    def end(self, point: Measurement | None) -> None:
        """It is done; None: it was no measurement."""


async def run(
    connection: Connection, workload: Workload, models: Sequence[Model], sweep: Sweep, watcher: Watcher
) -> LoadResult:
    """Measure the workload at every load of the sweep; raises a DragomanError where a request fails alone."""
    points: list[Measurement] = []
    async with Calls(connection, connections=sweep.connections, timeout=sweep.timeout) as calls:
        expected = Expected({model.name: model.precision for model in models})
        running = _Running(calls, workload, expected, sweep, watcher)
        alone = await running.alone()
        with _frozen_garbage():
            for users in sweep.users:
                points.append(await running.point("closed", users))
            for rate in sweep.rates:
                points.append(await running.point("open", rate.of(capacity(points))))
    return LoadResult(
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        workload=workload.name,
        description=WORKLOADS[workload.name],
        models=[Served(m.name, m.version, m.precision, m.lanes, m.max_rows) for m in models],
        seed=sweep.seed,
        different=len(workload.queries()),
        connections=sweep.connections,
        timeout=sweep.timeout,
        warm_up=sweep.window.warm_up,
        objectives=sweep.objectives,
        price_per_hour=sweep.price_per_hour,
        alone=alone,
        points=points,
    )


@dataclass(frozen=True, slots=True)
class _Running:
    calls: Calls
    workload: Workload
    expected: Expected
    sweep: Sweep
    watcher: Watcher

    async def alone(self) -> Summary:
        """Ask each request by itself, and keep what it is answered with."""
        queries = self.workload.queries()
        self.watcher.begin(f"{self.workload.name}: {len(queries)} answers alone", len(queries))
        tally, seconds = Tally(), []
        await self.calls.ask(queries[0])  # opens a connection
        for query in queries:
            began = time.perf_counter()
            reply = await self.calls.ask(query)
            if reply.error is not None:
                raise reply.error
            self.expected.keep(query, reply.messages)
            seconds.append(reply.ended - began)
            tally.sent = tally.ended = len(seconds)
            self.watcher.advance(len(seconds), tally)
        self.watcher.end(None)
        found = Summary.of(seconds)
        assert found is not None  # no workload is empty
        return found

    async def point(self, mode: Mode, offered: float) -> Measurement:
        """So many users, or arrivals a second."""
        window = self.sweep.window
        driver = Driver(self.calls, self.workload, self.expected, window, self.sweep.seed)
        self.watcher.begin(f"{self.workload.name}: {shown_load(mode, offered)}", window.end)
        driver.start()
        meters = {"generator": time.process_time, **self.sweep.meters}
        metered = asyncio.create_task(_processors(driver, window, meters))
        watched = asyncio.create_task(_show(driver, self.watcher))
        try:
            samples = await (driver.closed(int(offered)) if mode == "closed" else driver.open(self._arrivals(offered)))
            processors = await metered
        finally:
            metered.cancel()
            watched.cancel()
        objectives = self.sweep.objectives
        point = measure(samples, window, objectives, mode=mode, offered=offered, processors=processors)
        self.watcher.end(point)
        return point

    def _arrivals(self, rate: float) -> Iterator[float]:
        chance = Random(f"{self.sweep.seed} arrivals")
        window, work = self.sweep.window, self.workload
        return poisson(chance, rate, window.end, intensity=lambda t: work.intensity(window.phase(t)), peak=work.peak)


async def _processors(driver: Driver, window: Window, meters: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Processors kept busy while the window is open, by meter."""
    await asyncio.sleep(max(0.0, window.warm_up - driver.now()))
    began, before = driver.now(), {name: read() for name, read in meters.items()}
    await asyncio.sleep(max(0.0, window.end - driver.now()))
    seconds = driver.now() - began
    return {name: (read() - before[name]) / seconds for name, read in meters.items()}


async def _show(driver: Driver, watcher: Watcher) -> None:
    while True:
        watcher.advance(driver.now(), driver.tally)
        await asyncio.sleep(_TICK)


@contextlib.contextmanager
def _frozen_garbage() -> Iterator[None]:
    """What is there by now is not searched for garbage: that would hold up what is being timed."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
