from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dragoman_server.errors import Cancelled, DeadlineExceeded, Overloaded, Unavailable
from dragoman_server.explaining.explainer import Explainer, ExplainJob
from dragoman_server.explaining.graph import Attention, ExplainInput

WAIT = 20.0


class NoGraph:
    def run(self, inputs: Sequence[ExplainInput]) -> list[Attention]:
        return [Attention() for _ in inputs]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Ask:
    """Jobs that note their order; the first may hold the thread until ``go``."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        self.order: list[str] = []
        self.outcomes: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.begun, self.go = threading.Event(), threading.Event()

    def job(self, name: str, compute: Callable[[Any], Any] | None = None, **given: Any) -> ExplainJob[Any]:
        def noted(graph: Any) -> Any:
            self.order.append(name)
            return compute(graph) if compute else name

        job: ExplainJob[Any] = ExplainJob(noted, lambda outcome: self.outcomes.put((name, outcome)), **given)
        self.explainer.submit(job)
        return job

    def hold(self) -> None:
        def wait(_: Any) -> str:
            self.begun.set()
            assert self.go.wait(WAIT)
            return "held"

        self.job("held", wait)
        assert self.begun.wait(WAIT)

    def collect(self, count: int) -> dict[str, Any]:
        return dict(self.outcomes.get(timeout=WAIT) for _ in range(count))


def test_the_graph_is_opened_by_the_first_job_and_kept() -> None:
    opened: list[NoGraph] = []

    def open_graph() -> NoGraph:
        opened.append(NoGraph())
        return opened[-1]

    explainer = Explainer(open_graph)
    assert opened == []
    ask = Ask(explainer)
    ask.job("a", lambda graph: graph)
    ask.job("b", lambda graph: graph)
    assert ask.collect(2) == {"a": opened[0], "b": opened[0]}
    explainer.stop(WAIT)
    assert len(opened) == 1


def test_a_graph_that_cannot_be_opened_fails_that_job_and_is_tried_again() -> None:
    left = [OSError("gone")]

    def open_graph() -> NoGraph:
        if left:
            raise left.pop()
        return NoGraph()

    explainer = Explainer(open_graph)
    ask = Ask(explainer)
    ask.job("a")
    assert isinstance(ask.collect(1)["a"], OSError)
    ask.job("b")
    assert ask.collect(1) == {"b": "b"}
    explainer.stop(WAIT)


def test_higher_priority_first_and_waiting_makes_up_for_it() -> None:
    clock = Clock()
    explainer = Explainer(NoGraph, clock=clock)
    ask = Ask(explainer)
    ask.hold()
    ask.job("old")
    clock.now += 2.5
    ask.job("plain")
    ask.job("urgent", priority=9)
    ask.job("little", priority=2)
    ask.go.set()
    ask.collect(5)
    assert ask.order == ["held", "urgent", "old", "little", "plain"]
    explainer.stop(WAIT)


def test_cancelled_and_late_jobs_are_passed_over() -> None:
    clock = Clock()
    explainer = Explainer(NoGraph, clock=clock)
    ask = Ask(explainer)
    ask.hold()
    cancelled = ask.job("cancelled")
    ask.job("late", deadline=clock.now + 1)
    ask.job("good", deadline=clock.now + 5)
    cancelled.cancel()
    clock.now += 2
    ask.go.set()
    outcomes = ask.collect(4)
    assert isinstance(outcomes["cancelled"], Cancelled)
    assert isinstance(outcomes["late"], DeadlineExceeded)
    assert outcomes["good"] == "good"
    assert ask.order == ["held", "good"]
    explainer.stop(WAIT)


def test_a_full_queue_refuses_with_a_pause() -> None:
    explainer = Explainer(NoGraph, max_waiting=1)
    ask = Ask(explainer)
    ask.hold()
    ask.job("waits")
    with pytest.raises(Overloaded) as caught:
        ask.job("too many")
    assert 0 < caught.value.retry_after <= 30
    ask.go.set()
    assert ask.collect(2)["waits"] == "waits"
    explainer.stop(WAIT)


def test_a_failing_job_is_its_own_answer() -> None:
    explainer = Explainer(NoGraph)
    ask = Ask(explainer)
    ask.job("bad", lambda _: 1 // 0)
    ask.job("good")
    outcomes = ask.collect(2)
    assert isinstance(outcomes["bad"], ZeroDivisionError)
    assert outcomes["good"] == "good"
    explainer.stop(WAIT)


def test_a_reply_that_fails_does_not_end_the_thread() -> None:
    explainer = Explainer(NoGraph)
    ask = Ask(explainer)
    failing: ExplainJob[str] = ExplainJob(lambda _: "x", lambda _: 1 // 0)  # type: ignore[arg-type]
    explainer.submit(failing)
    ask.job("good")
    assert ask.collect(1) == {"good": "good"}
    explainer.stop(WAIT)


def test_stopping_ends_what_waits_and_refuses_what_comes() -> None:
    explainer = Explainer(NoGraph)
    ask = Ask(explainer)
    ask.hold()
    ask.job("waits")
    stopper = threading.Thread(target=explainer.stop, args=(0.0,))
    stopper.start()
    name, outcome = ask.outcomes.get(timeout=WAIT)
    assert name == "waits"
    assert isinstance(outcome, Unavailable)
    with pytest.raises(Unavailable):
        ask.job("late")
    ask.go.set()
    assert ask.collect(1) == {"held": "held"}
    stopper.join(WAIT)
    assert not stopper.is_alive()


def test_one_that_never_ran_stops_at_once() -> None:
    explainer = Explainer(NoGraph)
    explainer.stop(WAIT)
    with pytest.raises(Unavailable):
        explainer.submit(ExplainJob(lambda _: None, lambda _: None))


def test_what_waits_and_what_was_done_is_counted() -> None:
    explainer = Explainer(NoGraph, max_waiting=2)
    ask = Ask(explainer)
    ask.hold()
    ask.job("first")
    ask.job("second").cancel()
    with pytest.raises(Overloaded):
        ask.job("third")
    state = explainer.state()
    assert (state.waiting, state.max_waiting, state.running, state.meter.refused) == (2, 2, 1, 1)
    ask.go.set()
    ask.collect(3)

    def fail(graph: Any) -> None:
        raise RuntimeError("broken")

    ask.job("broken", fail)
    ask.job("late", deadline=0.0)
    ask.collect(2)
    explainer.stop(WAIT)
    state = explainer.state()
    meter = state.meter
    assert (state.waiting, state.running) == (0, 0)
    assert (meter.completed, meter.cancelled, meter.expired, meter.failed) == (2, 1, 1, 1)
    assert meter.seconds.count == meter.queue_seconds.count == 3
