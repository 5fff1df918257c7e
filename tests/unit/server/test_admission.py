from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.admission import Admission
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.pace import Pace
from dragoman_server.request import Completion, Request
from dragoman_server.scheduler import Scheduler

STEP = 0.25


def request(steps: float = 1.0, width: int = 1, priority: int = 0, deadline: float | None = None) -> Request:
    options = DecodingOptions(max_length=50, beam_size=width)
    return Request([7] * 4, options, lambda outcome: None, priority=priority, deadline=deadline, expected_steps=steps)


@dataclass
class Lanes:
    """Lanes that step together and need as many steps for a request as are expected."""

    capacities: list[int]
    now: float = 0.0
    started: dict[Request, float] = field(default_factory=dict)
    ended: dict[Request, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler[Request](
            self.capacities, max_waiting=1000, max_waiting_tokens=10_000, encode_tokens=10_000
        )
        self.paces = [Pace() for _ in self.capacities]
        self.running: list[list[Request]] = [[] for _ in self.capacities]
        self.admission = Admission(
            self.scheduler, self.paces, most_steps=50, size=lambda request: len(request.source_ids)
        )
        for pace in self.paces:
            pace.step.add(1, STEP)

    def offer(self, *requests: Request) -> None:
        for entry in requests:
            assert self.scheduler.offer(entry, self.now)

    def plan(self) -> None:
        for lane in range(len(self.capacities)):
            plan = self.scheduler.schedule(lane, self.running[lane], self.now)
            self.running[lane] = [r for r in self.running[lane] if r not in plan.leavers] + plan.joiners
            for joiner in plan.joiners:
                self.started[joiner] = self.now
                joiner.lane, joiner.joined, joiner.steps_before = lane, self.now, self.paces[lane].steps

    def step(self) -> None:
        self.plan()
        self.now += STEP
        for lane, running in enumerate(self.running):
            if running:
                self.paces[lane].stepped(len(running), STEP)
            for entry in running:
                if self.paces[lane].steps - entry.steps_before >= entry.expected_steps:
                    entry.finish(Completion([], entry.receipt()))
                    self.ended[entry] = self.now
            self.running[lane] = [entry for entry in running if not entry.finished]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_for_requests_of_one_length_the_prediction_is_what_happens(data: st.DataObject) -> None:
    lanes = Lanes(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3), label="capacities"))
    steps = data.draw(st.integers(1, 8), label="steps")
    for arrivals in data.draw(st.lists(st.integers(0, 5), max_size=12), label="arrivals"):
        lanes.offer(*(request(steps) for _ in range(arrivals)))
        lanes.step()
    lanes.plan()
    newcomer = request(steps)
    prediction = lanes.admission.predict(newcomer, lanes.now)
    asked = lanes.now
    lanes.offer(newcomer)
    for _ in range(500):
        if newcomer in lanes.ended:
            break
        lanes.step()
    assert prediction.start == pytest.approx(lanes.started[newcomer] - asked)
    assert prediction.end == pytest.approx(lanes.ended[newcomer] - asked)


def test_one_row_is_exact_for_all_lengths_and_counts_only_what_is_ahead() -> None:
    lanes = Lanes([1])
    running, *waiting = requests = [request(s, priority=p) for s, p in ((4, 0), (3, 0), (7, 2), (5, 1))]
    lanes.offer(running)
    lanes.step()
    lanes.plan()
    lanes.offer(*waiting)
    newcomer = request(2, priority=1)
    prediction = lanes.admission.predict(newcomer, lanes.now)
    assert (prediction.start, prediction.end) == ((3 + 7 + 5) * STEP, (3 + 7 + 5 + 2) * STEP)
    lanes.offer(newcomer)
    asked = lanes.now
    while len(lanes.ended) < len(requests) + 1:
        lanes.step()
    assert lanes.started[newcomer] - asked == prediction.start
    assert lanes.started[waiting[0]] > lanes.started[newcomer]


def test_a_wide_request_waits_for_all_its_rows() -> None:
    lanes = Lanes([4])
    lanes.offer(*(request(steps) for steps in (2, 4, 6, 8)))
    lanes.plan()
    starts = [lanes.admission.predict(request(5, width), lanes.now).start for width in (1, 2, 3, 4)]
    assert starts == [2 * STEP, 4 * STEP, 6 * STEP, 8 * STEP]


def test_free_rows_are_taken_at_once() -> None:
    lanes = Lanes([2, 2])
    lanes.offer(*(request(5) for _ in range(3)))
    lanes.plan()
    assert lanes.admission.predict(request(5), lanes.now).start == 0
    assert lanes.admission.predict(request(5, width=2), lanes.now).start > 0


def test_encoding_counts_for_the_newcomer_and_for_what_is_ahead() -> None:
    lanes = Lanes([1])
    for tokens in (1, 10):
        lanes.paces[0].encoding.add(tokens, 0.5 + 0.125 * tokens)
    own = 0.5 + 4 * 0.125 + 2 * STEP
    assert lanes.admission.predict(request(2), 0.0).end == pytest.approx(own)
    lanes.offer(request(3), request(3))
    prediction = lanes.admission.predict(request(2), 0.0)
    # On average over the two measured: of those, the older counts a little less.
    assert prediction.start == pytest.approx(8 * (0.99 * 0.625 + 1.75) / (0.99 * 1 + 10) + 6 * STEP)
    assert prediction.end == pytest.approx(prediction.start + own)


def test_what_is_encoded_between_steps_counts_while_requests_wait() -> None:
    lanes, pace = Lanes([1]), Pace()
    lanes.paces[0].encoding_between = 0.5
    assert lanes.admission.predict(request(3), 0.0).end == 3 * STEP
    lanes.offer(request(2))
    assert lanes.admission.predict(request(3), 0.0).end == 2 * STEP + 3 * (STEP + 0.5)
    for _ in range(300):
        pace.encoded(5, 0.25)
        pace.encoded(5, 0.75)
        pace.stepped(1, STEP)
        pace.stepped(1, STEP)
    assert pace.encoding_between == pytest.approx(0.5, rel=0.05)


def test_lanes_that_were_not_measured_are_taken_to_be_like_the_others() -> None:
    lanes = Lanes([1, 1])
    lanes.paces[1].step = Pace().step
    lanes.offer(request(4), request(6))
    lanes.plan()
    assert lanes.admission.predict(request(5), 0.0).start == 4 * STEP


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 8),
        ({"max_length": 5}, 5),
        ({"min_length": 20}, 21),
        ({"min_length": 49}, 50),
        ({"prefix": (9,) * 12}, 13),
        ({"prefix": (9, 3), "forced": True}, 2),
        ({"prefix": (9,) * 30, "forced": True}, 30),
    ],
)
def test_expected_steps_keep_to_the_options(options: dict[str, object], expected: int) -> None:
    lanes, entry = Lanes([1, 1]), request()
    entry.options = replace(entry.options, **options)  # type: ignore[arg-type]
    fresh = lanes.admission.expected_steps(entry)
    assert fresh == (expected if options.keys() & {"min_length", "prefix"} else 1)
    lanes.paces[1].finished(10, 20)  # two steps for each of the four source tokens
    assert lanes.admission.expected_steps(entry) == expected


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_in_time_is_whether_the_predicted_end_keeps_the_deadline(data: st.DataObject) -> None:
    """However far the deadline is: the short cut for distant ones changes nothing."""
    lanes = Lanes(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    widths = st.integers(1, min(lanes.capacities))
    for _ in range(data.draw(st.integers(0, 10))):
        lanes.offer(request(data.draw(st.integers(1, 50)), data.draw(widths), data.draw(st.integers(0, 9))))
        if data.draw(st.booleans()):
            lanes.step()
    newcomer = request(data.draw(st.integers(1, 50)), data.draw(widths), data.draw(st.integers(0, 9)))
    assert lanes.admission.in_time(newcomer, lanes.now)  # without a deadline, any time
    end = lanes.now + lanes.admission.predict(newcomer, lanes.now).end
    newcomer.deadline = end + data.draw(st.sampled_from([-5.0, -0.01, 0.0, 0.01, 5.0, 100.0]))
    assert lanes.admission.in_time(newcomer, lanes.now) == (newcomer.deadline >= end)
