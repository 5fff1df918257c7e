from __future__ import annotations

import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.request import Request
from dragoman_server.waiting import PRIORITIES, WaitingQueue, Work


def request(priority: int = 0, tokens: int = 3, width: int = 1, steps: float = 0.0) -> Request:
    options = DecodingOptions(max_length=10, beam_size=width)
    return Request([7] * tokens, options, lambda outcome: None, priority=priority, expected_steps=steps)


def order(queue: WaitingQueue[Request]) -> list[Request]:
    return queue.clear()


def test_priorities_go_first_and_each_is_first_come_first_served() -> None:
    queue, requests = WaitingQueue[Request](1.0), [request(p) for p in (0, 5, 0, 9, 5)]
    for entry in requests:
        queue.append(entry, 0.0)
    assert order(queue) == [requests[i] for i in (3, 1, 4, 0, 2)]


def test_a_period_of_waiting_is_worth_a_level() -> None:
    queue, old, new, newer = WaitingQueue[Request](2.0), request(0), request(3), request(3)
    queue.append(old, 10.0)
    queue.append(new, 15.9)
    queue.append(newer, 16.1)
    assert order(queue) == [new, old, newer]


def test_of_equals_the_older_goes_first() -> None:
    queue, old, new = WaitingQueue[Request](2.0), request(0), request(3)
    queue.append(old, 10.0)
    queue.append(new, 16.0)
    assert queue.ahead_of(3, 16.0).requests == 2
    assert order(queue) == [old, new]


def test_a_request_that_was_taken_is_not_held_on_to() -> None:
    queue = WaitingQueue[Request](1.0)
    for _ in range(3):
        queue.append(request(), 0.0)
    place = queue.pop()
    queue.put_back([place])
    assert queue.pop() is place
    taken = weakref.ref(place.request)
    del place
    assert taken() is None
    assert len(queue) == 2


def test_work_ahead_is_that_of_higher_and_of_aged_requests() -> None:
    queue = WaitingQueue[Request](1.0)
    queue.append(request(0, tokens=1, width=2, steps=4.0), 0.0)
    queue.append(request(0, tokens=10), 3.0)
    queue.append(request(9, tokens=100, width=3, steps=5.5), 3.5)
    assert queue.ahead_of(5, 5.5) == Work(2, 5, 24.5, 101)
    assert queue.ahead_of(9, 5.5) == Work(1, 3, 16.5, 100)
    assert queue.ahead_of(0, 5.5) == queue.work == Work(3, 6, 24.5, 111)


class Reference:
    """The same by sorting: (rank, since, order) and the request."""

    def __init__(self, ageing: float) -> None:
        self.ageing = ageing
        self.entries: list[tuple[tuple[float, float, int], Request]] = []

    def append(self, entry: Request, now: float) -> None:
        self.entries.append(((now - entry.priority * self.ageing, now, entry.number), entry))
        self.entries.sort(key=lambda pair: pair[0])

    def ahead_of(self, priority: int, now: float) -> set[Request]:
        return {entry for rank, entry in self.entries if rank[:2] <= (now - priority * self.ageing, now)}


def total(requests: set[Request]) -> Work:
    return Work(
        len(requests),
        sum(r.width for r in requests),
        sum(r.width * r.expected_steps for r in requests),
        sum(len(r.source_ids) for r in requests),
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), ageing=st.sampled_from([0.25, 1.0, 8.0]))
def test_order_and_work_are_those_of_a_sorted_list(data: st.DataObject, ageing: float) -> None:
    queue, reference, now = WaitingQueue[Request](ageing), Reference(ageing), 100.0
    priorities = st.integers(0, PRIORITIES - 1)
    for _ in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.sampled_from([0.0, 0.25, 1.0, 10.0]))
        match data.draw(st.sampled_from(["many", "append", "pop", "pass", "remove"])):
            case "many":
                for number in range(data.draw(st.integers(60, 200))):
                    entry = request(number * 7 % 3, steps=float(number % 5))
                    queue.append(entry, now)
                    reference.append(entry, now)
            case "append":
                entry = request(data.draw(priorities), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4)), 2.5)
                queue.append(entry, now)
                reference.append(entry, now)
            case "pop":
                for _ in range(data.draw(st.integers(0, len(queue)))):
                    assert queue.first is reference.entries[0][1]
                    assert queue.pop().request is reference.entries.pop(0)[1]
            case "pass":  # some are passed over, others taken
                passed = []
                for index in range(data.draw(st.integers(0, min(70, len(queue))))):
                    place = queue.pop()
                    if index % 3 == 0:
                        passed.append(place)
                    else:
                        reference.entries = [pair for pair in reference.entries if pair[1] is not place.request]
                queue.put_back(passed)
            case "remove":
                gone = {entry for index, (_, entry) in enumerate(reference.entries) if index % 3 == 0}
                assert set(queue.remove(gone.__contains__)) == gone
                reference.entries = [pair for pair in reference.entries if pair[1] not in gone]
        assert queue.work == total({entry for _, entry in reference.entries})
        for priority in (0, data.draw(priorities), 9):
            assert queue.ahead_of(priority, now) == total(reference.ahead_of(priority, now))
    assert order(queue) == [entry for _, entry in reference.entries]
    assert queue.work == Work()
