from __future__ import annotations

import pytest

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.request import Request
from dragoman_server.scheduler import Scheduler


def request(tokens: int = 3, deadline: float | None = None, width: int = 1, priority: int = 0) -> Request:
    options = DecodingOptions(max_length=10, beam_size=width)
    return Request([7] * tokens, options, lambda outcome: None, deadline=deadline, priority=priority)


def scheduler(
    *capacities: int, max_waiting: int = 100, max_waiting_tokens: int = 10_000, encode_tokens: int = 1_000
) -> Scheduler[Request]:
    return Scheduler(
        capacities, max_waiting=max_waiting, max_waiting_tokens=max_waiting_tokens, encode_tokens=encode_tokens
    )


def offer(queue: Scheduler[Request], *requests: Request) -> None:
    for entry in requests:
        assert queue.offer(entry, 0.0)


def test_first_come_first_served_up_to_the_free_rows() -> None:
    queue, requests = scheduler(2), [request() for _ in range(3)]
    offer(queue, *requests)
    assert queue.schedule(0, [], 0.0).joiners == requests[:2]
    assert not queue.schedule(0, requests[:2], 0.0)
    assert queue.schedule(0, requests[1:2], 0.0).joiners == requests[2:]
    assert queue.waiting == queue.waiting_tokens == 0


def test_joiners_keep_to_the_encode_budget_but_a_long_first_is_never_passed_over() -> None:
    queue = scheduler(8, encode_tokens=10)
    long, short, other = request(50), request(6), request(6)
    offer(queue, long, short, other)
    assert queue.schedule(0, [], 0.0).joiners == [long]
    assert queue.schedule(0, [long], 0.0).joiners == [short]
    assert queue.schedule(0, [long, short], 0.0).joiners == [other]


def test_a_nearly_full_lane_is_joined_by_several_at_a_time_while_more_wait_than_fit() -> None:
    queue, running = scheduler(16), [request() for _ in range(15)]
    waiting = [request() for _ in range(3)]
    offer(queue, *waiting)
    assert not queue.schedule(0, running, 0.0), "one row of sixteen is free"
    assert queue.schedule(0, running[:14], 0.0).joiners == waiting[:2], "an eighth is"
    assert queue.schedule(0, running, 0.0).joiners == waiting[2:], "all that wait fit"


def test_where_groups_save_nothing_a_nearly_full_lane_is_joined_one_by_one() -> None:
    queue: Scheduler[Request] = Scheduler(
        [16], max_waiting=100, max_waiting_tokens=1000, encode_tokens=100, in_groups=False
    )
    waiting = [request() for _ in range(3)]
    offer(queue, *waiting)
    assert queue.schedule(0, [request() for _ in range(15)], 0.0).joiners == waiting[:1]


def test_a_lane_that_is_still_taking_others_in_gets_nobody() -> None:
    queue, waiting, gone = scheduler(4), request(), request()
    offer(queue, waiting, gone)
    gone.cancel()
    assert queue.schedule(0, [request()], 1.0, takes=False) == ([], [], [gone])
    assert queue.schedule(0, [request()], 1.0).joiners == [waiting]


def test_nobody_is_left_to_an_emptier_lane_that_is_still_taking_others_in() -> None:
    queue, waiting = scheduler(4, 4), request()
    queue.schedule(0, [request()], 0.0)
    queue.schedule(1, [request(), request()], 0.0)
    offer(queue, waiting)
    assert not queue.schedule(1, [request(), request()], 0.0)
    queue.schedule(0, [request()], 0.0, takes=False)
    assert queue.schedule(1, [request(), request()], 0.0).joiners == [waiting]


def test_queue_is_bounded_in_requests() -> None:
    queue = scheduler(1, max_waiting=2)
    offer(queue, request(), request())
    assert not queue.offer(request(), 0.0)


def test_queue_is_bounded_in_tokens_but_an_empty_one_takes_anything() -> None:
    queue = scheduler(1, max_waiting_tokens=10)
    assert queue.offer(request(11), 0.0)
    assert not queue.offer(request(1), 0.0)
    queue.schedule(0, [], 0.0)
    offer(queue, request(6), request(4))
    assert not queue.offer(request(1), 0.0)


def test_a_full_queue_makes_room_by_dropping_who_has_gone() -> None:
    queue, gone, late = scheduler(1, max_waiting=2), request(), request(deadline=5.0)
    offer(queue, gone, late)
    gone.cancel()
    assert queue.offer(request(), 6.0)
    assert queue.waiting == 1
    assert queue.schedule(0, [], 6.0).dropped == [gone, late]


def test_cancelled_and_expired_are_dropped_from_the_queue_even_while_all_rows_are_taken() -> None:
    queue, running = scheduler(1), request()
    offer(queue, running)
    assert queue.schedule(0, [], 0.0).joiners == [running]
    cancelled, expired, good = request(), request(deadline=1.0), request()
    offer(queue, cancelled, expired, good)
    cancelled.cancel()
    plan = queue.schedule(0, [running], 2.0)
    assert (plan.dropped, plan.joiners, plan.leavers) == ([cancelled, expired], [], [])
    assert queue.schedule(0, [], 2.0).joiners == [good]


def test_running_requests_leave_when_cancelled_or_expired_and_free_their_rows_at_once() -> None:
    queue, requests = scheduler(3), [request(), request(deadline=1.0), request()]
    offer(queue, *requests)
    assert queue.schedule(0, [], 0.0).joiners == requests
    successors = [request(), request(), request()]
    offer(queue, *successors)
    requests[0].cancel()
    plan = queue.schedule(0, requests, 1.0)
    assert plan.leavers == requests[:2]
    assert plan.joiners == successors[:2]


def test_an_emptier_lane_gets_its_requests_first() -> None:
    queue, held = scheduler(8, 8), [request() for _ in range(3)]
    offer(queue, *held)
    assert queue.schedule(0, [], 0.0).joiners == held[:2]
    assert queue.schedule(1, [], 0.0).joiners == held[2:]
    single, pair = request(), [request(), request()]
    offer(queue, single)
    assert queue.schedule(0, held[:2], 0.0).joiners == []
    assert queue.schedule(1, held[2:], 0.0).joiners == [single]
    offer(queue, *pair)
    assert queue.schedule(1, [], 0.0).joiners == pair


def test_a_full_lane_keeps_nobody_waiting() -> None:
    queue, requests = scheduler(1, 8), [request() for _ in range(9)]
    offer(queue, *requests)
    assert queue.schedule(0, [], 0.0).joiners == requests[:1]
    assert queue.schedule(1, [], 0.0).joiners == requests[1:]


def test_a_wide_request_takes_as_many_rows_as_it_has_hypotheses() -> None:
    queue, wide, narrow = scheduler(8), request(width=6), [request() for _ in range(3)]
    offer(queue, wide, *narrow)
    assert queue.waiting_rows == 9
    assert queue.schedule(0, [], 0.0).joiners == [wide, *narrow[:2]]
    assert queue.waiting_rows == 1


def test_a_wide_request_is_not_starved_by_narrow_ones_and_only_one_lane_waits_for_it() -> None:
    queue, held = scheduler(4, 4), [request() for _ in range(8)]
    offer(queue, *held)
    lanes = [queue.schedule(0, [], 0.0).joiners, queue.schedule(1, [], 0.0).joiners]
    assert [len(running) for running in lanes] == [4, 4]
    wide, narrow = request(width=3), [request() for _ in range(20)]
    offer(queue, wide, *narrow)
    del lanes[0][0]  # one row is free, where three are needed: lane 0 is kept for it
    assert queue.schedule(0, lanes[0], 0.0).joiners == []
    for number in range(5):  # lane 1 goes on meanwhile
        del lanes[1][0]
        assert queue.schedule(1, lanes[1], 0.0).joiners == [narrow[number]]
        lanes[1].append(narrow[number])
    del lanes[0][0]
    assert queue.schedule(0, lanes[0], 0.0).joiners == []
    del lanes[0][0]
    assert queue.schedule(0, lanes[0], 0.0).joiners == [wide]


def test_an_endless_stream_of_narrow_requests_starves_no_wide_one() -> None:
    queue, wide, running = scheduler(4, max_waiting=50), request(width=4), [[request(), 3]]
    offer(queue, running[0][0], wide)  # type: ignore[arg-type]
    queue.schedule(0, [], 0.0)
    for _ in range(20):
        while queue.waiting < 10:
            offer(queue, request())
        for entry in running:
            entry[1] -= 1  # type: ignore[operator]
        running = [entry for entry in running if entry[1]]
        joiners = queue.schedule(0, [entry[0] for entry in running], 0.0).joiners  # type: ignore[misc]
        if wide in joiners:
            return
        running += [[joiner, 3] for joiner in joiners]
    raise AssertionError("starved")


def test_a_lane_is_kept_for_the_wide_request_that_is_first_and_higher_priorities_still_go_before_it() -> None:
    queue, held = scheduler(4), [request() for _ in range(4)]
    offer(queue, *held)
    queue.schedule(0, [], 0.0)
    wide, narrow, urgent = request(width=3), request(), request(priority=5)
    offer(queue, wide, narrow, urgent)
    running = held[1:]
    assert queue.schedule(0, running, 0.0).joiners == [urgent]
    running = [held[3], urgent]
    assert queue.schedule(0, running, 0.0).joiners == []
    assert queue.schedule(0, [urgent], 0.0).joiners == [wide]


def test_no_stream_of_high_priorities_starves_a_low_one() -> None:
    queue, low, now = scheduler(2, max_waiting=10), request(), 0.0
    running: list[Request] = []
    for step in range(200):
        while queue.waiting < 9:
            assert queue.offer(request(priority=9), now)
        if step == 5:
            assert queue.offer(low, now)
        now += 0.5
        plan = queue.schedule(0, running[-1:], now)  # one row becomes free at every step
        running = [*running[-1:], *plan.joiners]
        if low in plan.joiners:
            break
    # Nine periods, and then the nine that had come in time to be before it.
    assert 9 / 0.5 <= step - 5 <= 9 / 0.5 + 10


def test_clear_returns_all_that_waited() -> None:
    queue, requests = scheduler(1), [request(), request()]
    offer(queue, *requests)
    assert queue.clear() == requests
    assert queue.waiting == queue.waiting_tokens == 0


def test_all_faulty_limits_are_named() -> None:
    with pytest.raises(ValueError, match=r"max_waiting = 0.*encode_tokens = -1.*capacities\[1\] = 0"):
        scheduler(1, 0, max_waiting=0, encode_tokens=-1)
    with pytest.raises(ValueError, match="at least one lane"):
        scheduler()
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"ageing_seconds = .*: more than 0"):
            Scheduler([1], max_waiting=1, max_waiting_tokens=1, encode_tokens=1, ageing_seconds=seconds)
