"""Two ways to put load on a server: users who wait for each answer, and arrivals that wait for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import pairwise
from random import Random

from dragoman.load.answers import Expected
from dragoman.load.calling import Calls, Reply
from dragoman.load.queries import Query
from dragoman.load.samples import Sample, Tally, Window
from dragoman.load.workload import Workload

NO_ANSWER = "no-answer"
"""The call ended well, without a message."""


class Driver:
    """Asks for one workload's requests and checks every answer. Times count from ``start``."""

    def __init__(self, calls: Calls, workload: Workload, expected: Expected, window: Window, seed: int) -> None:
        self.tally = Tally()
        self._calls = calls
        self._workload = workload
        self._expected = expected
        self._window = window
        self._seed = seed
        self._started = 0.0

    def start(self) -> None:
        """The run begins."""
        self._started = time.perf_counter()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    async def closed(self, users: int) -> list[Sample]:
        """So many users, each of whom sends the next request when the last one's answer is there."""
        found = await asyncio.gather(*(self._user(number) for number in range(users)))
        return [sample for samples in found for sample in samples]

    async def open(self, arrivals: Iterable[float]) -> list[Sample]:
        """Requests at these moments, ascending, however many are under way."""
        random = Random(f"{self._seed} requests")
        tasks: list[asyncio.Task[Sample]] = []
        for due in arrivals:
            await asyncio.sleep(max(0.0, due - self.now()))
            query = self._workload.draw(random, self._window.phase(due))
            tasks.append(asyncio.create_task(self._ask(query, due)))
        return list(await asyncio.gather(*tasks))

    async def _user(self, number: int) -> list[Sample]:
        random = Random(f"{self._seed} user {number}")
        samples = []
        while (now := self.now()) < self._window.end:
            samples.append(await self._ask(self._workload.draw(random, self._window.phase(now)), None))
        return samples

    async def _ask(self, query: Query, due: float | None) -> Sample:
        sent = self.now()
        self.tally.sent += 1
        reply = await self._calls.ask(query)
        fault = self._fault(query, reply)
        self.tally.ended += 1
        if fault is not None:
            self.tally.faults[fault] += 1
        streamed = query.call.chunk is not None and bool(reply.times)
        return Sample(
            kind=query.kind,
            due=sent if due is None else due,
            sent=sent,
            ended=reply.ended - self._started,
            first=reply.times[0] - self._started if streamed else None,
            gaps=tuple(b - a for a, b in pairwise(reply.times)) if streamed else (),
            tokens=self._expected.tokens(query),
            fault=fault,
        )

    def _fault(self, query: Query, reply: Reply) -> str | None:
        if reply.failure is not None:
            return reply.failure.code.name.lower().replace("_", "-")
        return self._expected.fault(query, reply.messages) if reply.messages else NO_ANSWER
