"""A lane by itself: its plans come from the test."""

from __future__ import annotations

import time

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.joining import EncoderJoining
from dragoman_server.lane import Lane
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.scheduler import Plan
from tests.unit.server.fake_runtime import BOS, EOS, FakeRuntime


def test_without_news_steps_follow_one_another_until_nobody_is_left() -> None:
    runtime, outcomes = FakeRuntime(2), list[Outcome]()
    options = DecodingOptions(max_length=50)
    first = Request([7, 100], options, outcomes.append)
    plans = iter([Plan([first], [], []), Plan([], [], []), Plan([Request([2, 200], options, outcomes.append)], [], [])])
    steps_at_plans = []

    def next_plan(lane: Lane) -> Plan[Request] | None:
        steps_at_plans.append(lane.pace.steps)
        return next(plans, None)

    def has_news(lane: Lane) -> bool:
        return lane.pace.steps == 3

    joining = EncoderJoining(runtime, bos=BOS, clock=time.monotonic)
    Lane(0, joining, eos=EOS, next_plan=next_plan, has_news=has_news).run()
    # News after three steps, whose plan is an empty one; then all ends, and so it does with the second request.
    assert steps_at_plans == [0, 3, 8, 11]
    texts = [outcome.best.token_ids for outcome in outcomes if isinstance(outcome, Completion)]
    assert texts == [[100 + i for i in range(7)], [200, 201]]
