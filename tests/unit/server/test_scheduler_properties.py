"""Whatever comes and goes: the scheduler, and rows given out by its plans, as a machine that Hypothesis drives."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.endings import Running
from dragoman_server.request import Request
from dragoman_server.rows import RowTable
from dragoman_server.scheduler import Scheduler

MAX_WAITING, MAX_TOKENS, ENCODE_TOKENS, AGEING = 8, 40, 12, 2.0


@dataclass
class Lane:
    rows: RowTable
    owners: dict[int, Request] = field(default_factory=dict)
    """By row."""
    running: list[Request] = field(default_factory=list)

    def release(self, requests: list[Request]) -> None:
        for request in requests:
            self.running.remove(request)
        freed = [row for row, owner in self.owners.items() if owner in requests]
        self.rows.free(freed)
        for row in freed:
            del self.owners[row]

    def admit(self, request: Request) -> None:
        # All that it reserves at once: rows must suffice even if every request gets as wide as it may.
        for _ in range(request.width):
            row = self.rows.allocate()
            assert row not in self.owners
            self.owners[row] = request
        self.running.append(request)

    def settle(self) -> None:
        """As before each step: from here on the live rows are a prefix."""
        for source, target in zip(*self.rows.settle(), strict=True):
            assert target not in self.owners
            self.owners[target] = self.owners.pop(source)
        assert sorted(self.owners) == list(range(self.rows.used))


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(capacities=st.lists(st.integers(1, 6), min_size=1, max_size=3))
    def begin(self, capacities: list[int]) -> None:
        self.capacities, self.now = capacities, 100.0
        self.queue = Scheduler[Request](
            capacities,
            max_waiting=MAX_WAITING,
            max_waiting_tokens=MAX_TOKENS,
            encode_tokens=ENCODE_TOKENS,
            ageing_seconds=AGEING,
        )
        self.lanes = [Lane(RowTable(capacity)) for capacity in capacities]
        self.waiting: list[Request] = []  # in order of arrival
        self.since: dict[Request, float] = {}
        self.outcomes: dict[Request, int] = {}

    @rule(
        priority=st.integers(0, 9),
        tokens=st.integers(1, 15),
        width=st.integers(1, 6),
        patience=st.none() | st.sampled_from([-1.0, 0.0, 0.5, 4.0]),
    )
    def offer(self, priority: int, tokens: int, width: int, patience: float | None) -> None:
        options = DecodingOptions(max_length=10, beam_size=min(width, *self.capacities, 6))
        deadline = None if patience is None else self.now + patience
        request = Request([7] * tokens, options, self.ended, deadline=deadline, priority=priority)
        room = len(self.waiting) < MAX_WAITING and sum(map(size, self.waiting)) + tokens <= MAX_TOKENS
        if self.queue.offer(request, self.now):
            self.waiting.append(request)
            self.since[request] = self.now
        else:
            assert self.waiting, "an empty queue takes anything"
            assert not room, "refused although there was room"

    def ended(self, outcome: object) -> None:
        raise AssertionError("the scheduler ends no request itself")

    def end(self, requests: list[Request]) -> None:
        for request in requests:
            self.outcomes[request] = self.outcomes.get(request, 0) + 1

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.25, 1.0, 8.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = [*self.waiting, *(request for lane in self.lanes for request in lane.running)]
        if known:
            data.draw(st.sampled_from(known)).cancel()

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.lanes) - 1))
        self.plan(number)
        self.lanes[number].settle()
        finished = [request for request in self.lanes[number].running if data.draw(st.booleans())]
        self.lanes[number].release(finished)
        self.end(finished)

    def plan(self, number: int) -> None:
        lane = self.lanes[number]
        before = lane.rows.free_rows
        quiet, held = not self.queue.has_news(number, Running(lane.running), self.now), self.queue.held[number]
        plan = self.queue.schedule(number, list(lane.running), self.now)
        assert not (quiet and (plan or self.queue.held[number] != held))
        assert plan.leavers == [request for request in lane.running if self.gone(request)]
        assert all(self.gone(request) for request in plan.dropped)
        assert not any(self.gone(request) for request in plan.joiners)
        lane.release(plan.leavers)
        for request in plan.joiners:
            lane.admit(request)  # asserts that there is a row
        self.end([*plan.leavers, *plan.dropped])
        for request in (*plan.joiners, *plan.dropped):
            self.waiting.remove(request)  # fails for one that was not waiting, or comes twice
        self.check_order(plan.joiners)
        assert len(plan.joiners) <= 1 or sum(map(size, plan.joiners)) <= ENCODE_TOKENS
        if self.waiting and before == self.capacities[number]:
            assert plan.joiners, "an idle lane is given work"

    def check_order(self, joiners: list[Request]) -> None:
        """Nobody joins before one that is no wider and outranks it; so it is first come first served among equals."""
        left = [request for request in self.waiting if not self.gone(request)]
        for index, joiner in enumerate(joiners):
            for other in (*joiners[index + 1 :], *left):
                if other.width <= joiner.width:
                    assert self.rank(joiner) >= self.rank(other)

    def rank(self, request: Request) -> tuple[float, float, int]:
        since = self.since[request]
        return request.priority + (self.now - since) / AGEING, -since, -request.number

    def gone(self, request: Request) -> bool:
        return request.cancelled or request.expired(self.now)

    @invariant()
    @precondition(lambda self: hasattr(self, "queue"))
    def nothing_leaks(self) -> None:
        in_queue = self.queue.waiting
        assert in_queue <= len(self.waiting)  # what was swept is dropped by the next plan
        assert in_queue <= MAX_WAITING
        assert self.queue.waiting_tokens <= MAX_TOKENS or in_queue == 1
        for lane in self.lanes:
            assert lane.rows.used == len(lane.owners) == sum(request.width for request in lane.running)
            assert all(list(lane.owners.values()).count(request) == request.width for request in lane.running)
        running = {request for lane in self.lanes for request in lane.running}
        for request in self.since:
            assert (request in self.waiting) + (request in running) + self.outcomes.get(request, 0) == 1

    def teardown(self) -> None:
        """What was accepted ends, each once, within the rounds that serving one by one would take."""
        if not hasattr(self, "queue"):
            return
        for _ in range(2 * len(self.waiting) + 3):
            for number, lane in enumerate(self.lanes):
                self.end(lane.running)
                lane.release(list(lane.running))
                self.plan(number)
            self.now += 0.1
        assert set(self.outcomes) == set(self.since)
        assert set(self.outcomes.values()) <= {1}
        assert self.queue.waiting == self.queue.waiting_tokens == self.queue.waiting_rows == 0
        assert not any(lane.running or lane.rows.used for lane in self.lanes)
        assert not self.queue.clear()


def size(request: Request) -> int:
    return len(request.source_ids)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


LONGEST = 4
ASKED = st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(1, 15), st.integers(1, LONGEST))
"""Priority, width, source tokens, and the ticks that it runs."""
TICK = 0.5


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), ASKED, st.lists(ASKED, min_size=1))
@example([4], (0, 4, 1, 1), [(9, 1, 1, 2), (9, 1, 1, 3)])
@example([1], (0, 1, 1, 1), [(9, 1, 1, 1)])
def test_nothing_starves_however_much_arrives(
    capacities: list[int], asked: tuple[int, int, int, int], arrivals: list[tuple[int, int, int, int]]
) -> None:
    """The queue is always full; after nine periods of ageing nobody who comes outranks who has waited."""
    queue = Scheduler[Request](
        capacities,
        max_waiting=MAX_WAITING,
        max_waiting_tokens=MAX_TOKENS,
        encode_tokens=ENCODE_TOKENS,
        ageing_seconds=AGEING,
    )

    def request(priority: int, width: int, tokens: int, lasts: int) -> Request:
        options = DecodingOptions(max_length=lasts, beam_size=min(width, *capacities))
        return Request([7] * tokens, options, lambda outcome: None, priority=priority)

    victim, coming = request(*asked), cycle(arrivals)
    now = 100.0
    assert queue.offer(victim, now)
    running: list[dict[Request, int]] = [{} for _ in capacities]
    outranked = round(9 * AGEING / TICK)
    # From then on those ahead, and one lane's rows for each of them if all are as wide as a lane.
    for tick in range(outranked + (MAX_WAITING + 2) * (LONGEST + 1)):
        while queue.offer(request(*next(coming)), now):
            pass
        for number, lane in enumerate(running):
            for done in [one for one, since in lane.items() if tick - since >= one.options.max_length]:
                del lane[done]
            plan = queue.schedule(number, list(lane), now)
            lane.update(dict.fromkeys(plan.joiners, tick))
            if victim in lane:
                return
        now += TICK
    raise AssertionError("starved")
