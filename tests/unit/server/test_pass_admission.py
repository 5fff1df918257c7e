from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.pace import Pace
from dragoman_server.pass_admission import PassAdmission
from dragoman_server.pass_request import PassRequest
from dragoman_server.pass_runtime import EncoderInput
from dragoman_server.scheduler import Scheduler

NOW = 50.0


def text(tokens: int, deadline: float | None = None) -> PassRequest:
    return PassRequest.of(EncoderInput([7] * tokens), lambda outcome: None, deadline)


class Lanes:
    """Lanes that take a second for each token, and what runs in them since when."""

    def __init__(self, *running: tuple[int, float], measured: bool = True) -> None:
        self.scheduler = Scheduler[PassRequest](
            [4] * max(1, len(running)), max_waiting=100, max_waiting_tokens=1000, encode_tokens=8
        )
        paces = [Pace() for _ in self.scheduler.capacities]
        if measured:
            for pace in paces:
                for tokens in (2, 8):
                    pace.encoded(tokens, float(tokens))
        self.admission = PassAdmission(self.scheduler, paces)
        for tokens, _ in running:
            if tokens:
                self.queue(tokens)
        for lane, (tokens, began) in enumerate(running):
            plan = self.scheduler.schedule(lane, [], NOW)
            assert sum(len(request.source_ids) for request in plan.joiners) == tokens
            for request in plan.joiners:
                request.lane, request.joined = lane, began

    def queue(self, tokens: int) -> None:
        assert self.scheduler.offer(text(tokens), NOW)

    def start(self, tokens: int = 1) -> float:
        return self.admission.seconds_to_start(text(tokens), NOW)


def test_an_idle_lane_starts_at_once() -> None:
    lanes = Lanes((0, 0.0))
    assert lanes.start() == 0
    assert lanes.admission.in_time(text(3, NOW + 3.1), NOW)
    assert not lanes.admission.in_time(text(3, NOW + 2.9), NOW)
    assert lanes.admission.in_time(text(64), NOW)


def test_a_running_pass_is_waited_for() -> None:
    assert Lanes((5, NOW - 2)).start() == pytest.approx(3)
    assert Lanes((5, NOW - 20)).start() == 0  # it is late, but not for ever
    assert Lanes((4, NOW), (3, NOW)).start() == pytest.approx(3)


def test_the_queue_is_shared_by_the_lanes() -> None:
    lanes = Lanes((4, NOW), (2, NOW))
    lanes.queue(6)
    lanes.queue(2)
    assert lanes.start() == pytest.approx((4 + 2) / 2 + (6 + 2) / 2)


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 100))
def test_what_was_not_measured_takes_no_time(tokens: int, patience: float) -> None:
    lanes = Lanes((4, NOW), measured=False)
    assert lanes.admission.in_time(text(tokens, NOW + patience), NOW)
