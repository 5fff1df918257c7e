"""One server, simulated event by event: callers, the event loop, the queue and the lanes, on shared cores.

The queue is the scheduler of the server itself, so who joins when is by its own rules.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf

import numpy as np
import numpy.typing as npt

from dragoman_server.planning.cores import Cores
from dragoman_server.planning.lane_models import SimulatedRequest, lane_model
from dragoman_server.planning.profile import Length, Profile
from dragoman_server.planning.workload import Workload
from dragoman_server.scheduler import Scheduler

Floats = npt.NDArray[np.float64]


@dataclass
class Trace:
    """What happened. Seconds; those of requests by their index, NaN where it did not come to that."""

    arrived: Floats
    joined: Floats
    """Their lane began to encode, prefill or read them."""
    answered: Floats
    """The caller has the answer."""
    refused: int = 0
    end: float = 0.0
    core_seconds: float = 0.0
    present_seconds: float = 0.0
    """Integral over time of the requests that are anywhere between caller and answer."""
    row_steps: int = 0
    steps: int = 0
    lane_seconds: float = 0.0
    """That lanes were at work, waiting for a core included."""
    lane_rows: list[int] = field(default_factory=list)
    """Rows in use of a lane, at each of its steps."""

    @property
    def sustained(self) -> float:
        """Answers in a second in the middle of the run: before, callers are yet to come; at its end, they have gone."""
        answered = np.sort(self.answered[np.isfinite(self.answered)])
        first, last = len(answered) // 5, len(answered) * 4 // 5
        return float((last - first) / (answered[last] - answered[first]))


class _Thread:
    """One thread of Python with a queue of its own: jobs in order. One that wakes it costs more than those it finds.

    It waits for ``wake`` seconds where it wakes up and every core is at work: a scheduler gives threads time in slices.
    """

    def __init__(self, cores: Cores, alone: float, busy: float, wake: float) -> None:
        self._cores, self._alone, self._busy, self._wake = cores, alone, busy, wake
        self._jobs: deque[Callable[[], None]] = deque()

    def add(self, job: Callable[[], None]) -> None:
        """``job`` is called when its turn has come and its time has passed."""
        if not self._alone and not self._busy:
            job()
            return
        self._jobs.append(job)
        if len(self._jobs) > 1:
            return
        if self._wake and self._cores.full:
            self._cores.wait(self._wake, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._cores.begin(self._alone, self._done)

    def _done(self) -> None:
        # Taken off afterwards: what the job itself adds finds the thread at work.
        self._jobs[0]()
        self._jobs.popleft()
        if self._jobs:
            self._cores.begin(self._busy, self._done)


class Simulation:
    """Runs once. ``lengths`` are those of the requests in order; ``arrivals`` their times, which ascend.

    Without arrivals there are ``callers`` instead, each of which asks again as soon as it is answered.
    """

    def __init__(
        self,
        profile: Profile,
        lengths: Sequence[Length],
        *,
        caller: float = 0.0,
        arrivals: Floats | None = None,
        callers: int = 0,
    ) -> None:
        assert (arrivals is None) == bool(callers)
        self._profile, self._lengths = profile, lengths
        self._cores = Cores(profile.cores)
        self._loop = _Thread(self._cores, profile.call_alone / 2, profile.call_busy / 2, profile.wake)
        self._caller = _Thread(self._cores, caller / 2, caller / 2, profile.wake)
        self._scheduler = Scheduler[SimulatedRequest](
            [profile.max_rows] * profile.lanes,
            max_waiting=profile.max_waiting,
            max_waiting_tokens=profile.max_waiting_tokens,
            encode_tokens=profile.join_tokens,
            in_groups=profile.family != "generation",
        )
        self._lanes = [lane_model(profile) for _ in range(profile.lanes)]
        self._idle = deque(range(profile.lanes))
        # A lane by itself is faster than what was measured while all worked.
        others = max(1, profile.lanes - 1)
        more = profile.crowding - 1
        self._slower = [(1 + more * beside / others) / profile.crowding for beside in range(profile.lanes)]
        self._arrivals = arrivals
        self._callers = callers
        self._next = 0
        self._present = 0
        count = len(lengths)
        self.trace = Trace(np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan))

    def run(self) -> Trace:
        """To the last answer."""
        cores, trace = self._cores, self.trace
        for _ in range(self._callers):
            self._arrive()
        while True:
            arrival = self._next_arrival()
            end = cores.next_end
            now = min(arrival, end)
            if now == inf:
                break
            trace.present_seconds += self._present * (now - cores.now)
            trace.lane_seconds += (len(self._lanes) - len(self._idle)) * (now - cores.now)
            cores.advance(now)
            if end <= arrival:
                cores.finish_next()
            else:
                self._arrive()
        trace.end, trace.core_seconds = cores.now, cores.busy_seconds
        return trace

    def _next_arrival(self) -> float:
        if self._arrivals is None or self._next == len(self._lengths):
            return inf
        return float(self._arrivals[self._next])

    def _arrive(self) -> None:
        if self._next == len(self._lengths):
            return
        index = self._next
        self._next += 1
        self._present += 1
        self.trace.arrived[index] = self._cores.now
        self._caller.add(lambda: self._loop.add(partial(self._offer, index)))

    def _offer(self, index: int) -> None:
        length = self._lengths[index]
        request = SimulatedRequest(index, length.source, length.steps, self._cores.now)
        if not self._scheduler.offer(request, self._cores.now):
            self.trace.refused += 1
            self._loop.add(lambda: self._caller.add(self._leave))  # a refusal is an answer too
        elif self._idle:
            # The lane that has slept longest is woken; if it may not join, the next are asked.
            for _ in range(len(self._idle)):
                if self._turn(self._idle.popleft()):
                    break

    def _turn(self, number: int) -> bool:
        """The lane's next plan; returns whether there was something to do."""
        lane = self._lanes[number]
        plan = self._scheduler.schedule(number, lane.running, self._cores.now, takes=lane.takes)
        if not (plan.joiners or lane.running):
            self._idle.append(number)
            return False
        trace = self.trace
        for request in plan.joiners:
            trace.joined[request.index] = self._cores.now
        beside = len(self._lanes) - len(self._idle) - 1
        seconds = lane.begin(plan.joiners)
        trace.steps += 1
        trace.row_steps += len(lane.running)
        trace.lane_rows.append(len(lane.running))
        self._cores.begin(seconds * self._slower[max(0, beside)], partial(self._turned, number))
        return True

    def _turned(self, number: int) -> None:
        for request in self._lanes[number].end():
            self._loop.add(partial(self._reply, request.index))
        self._turn(number)

    def _reply(self, index: int) -> None:
        self._caller.add(partial(self._answer, index))

    def _answer(self, index: int) -> None:
        self.trace.answered[index] = self._cores.now
        self._leave()

    def _leave(self) -> None:
        self._present -= 1
        if self._callers:
            self._arrive()


def open_loop(profile: Profile, workload: Workload, rate: float, count: int, seed: int) -> Trace:
    """``count`` requests of a Poisson process of ``rate`` in a second.

    Gaps and lengths are drawn apart, and only the gaps' scale depends on the rate: two rates differ in nothing else.
    """
    gaps, lengths = _draws(workload, count, seed)
    return Simulation(profile, lengths, caller=workload.caller, arrivals=np.cumsum(gaps / rate)).run()


def closed_loop(profile: Profile, workload: Workload, callers: int, count: int, seed: int) -> Trace:
    """``callers`` that ask again as soon as they are answered, ``count`` requests in all."""
    _, lengths = _draws(workload, count, seed)
    return Simulation(profile, lengths, caller=workload.caller, callers=callers).run()


def _draws(workload: Workload, count: int, seed: int) -> tuple[Floats, list[Length]]:
    gaps, chosen = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    places = chosen.integers(0, len(workload.lengths), count).tolist()
    return gaps.exponential(1.0, count), [workload.lengths[place] for place in places]
