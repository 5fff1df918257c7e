"""When a call is tried again, without a call."""

from __future__ import annotations

import grpc
import pytest

from dragoman import InvalidArgument, Overloaded, Retry, Unavailable
from dragoman.errors import PUSHBACK_KEY, Failure
from dragoman.retry import Attempts, Retrying

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "down")
FULL = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def pushed_back(code: grpc.StatusCode, milliseconds: str) -> Failure:
    return Failure(code, "later", ((PUSHBACK_KEY, milliseconds),))


def test_backoff_doubles_up_to_its_bound() -> None:
    retry = Retry(initial_backoff=0.1, max_backoff=0.3)
    delays = [retry.delay(attempt, UNAVAILABLE, 60.0, jitter=0.5) for attempt in (1, 2, 3, 4)]
    assert delays == pytest.approx([0.1, 0.2, 0.3, 0.3])


def test_jitter_is_a_fifth_either_way() -> None:
    assert Retry().delay(1, UNAVAILABLE, 60.0, jitter=0.0) == pytest.approx(0.08)
    assert Retry().delay(1, UNAVAILABLE, 60.0, jitter=1.0) == pytest.approx(0.12)


def test_the_fifth_attempt_is_the_last() -> None:
    assert Retry().delay(4, UNAVAILABLE, 60.0, jitter=0.5) is not None
    assert Retry().delay(5, UNAVAILABLE, 60.0, jitter=0.5) is None
    assert Retry(attempts=1).delay(1, UNAVAILABLE, 60.0, jitter=0.5) is None


def test_overload_is_retried_only_with_pushback() -> None:
    assert Retry().delay(1, FULL, 60.0, jitter=0.5) is None
    assert Retry().delay(1, pushed_back(FULL.code, "250"), 60.0, jitter=0.5) == 0.25
    assert Retry().delay(1, pushed_back(FULL.code, "-1"), 60.0, jitter=0.5) is None
    assert Retry().delay(1, pushed_back(FULL.code, "?"), 60.0, jitter=0.5) is None


def test_pushback_overrules_the_backoff_of_unavailable() -> None:
    assert Retry().delay(1, pushed_back(UNAVAILABLE.code, "900"), 60.0, jitter=0.5) == 0.9
    assert Retry().delay(1, pushed_back(UNAVAILABLE.code, "-1"), 60.0, jitter=0.5) is None


@pytest.mark.parametrize("code", set(grpc.StatusCode) - {UNAVAILABLE.code, FULL.code}, ids=lambda code: code.name)
def test_nothing_else_is_retried(code: grpc.StatusCode) -> None:
    assert Retry().delay(1, pushed_back(code, "10"), 60.0, jitter=0.5) is None


def test_no_pause_reaches_beyond_the_deadline() -> None:
    assert Retry().delay(1, pushed_back(FULL.code, "1000"), 1.0, jitter=0.5) is None
    assert Retry().delay(1, pushed_back(FULL.code, "1000"), 1.01, jitter=0.5) == 1.0


def test_faulty_rules_are_refused_all_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Retry(attempts=6, initial_backoff=0.0, max_backoff=-1.0, budget=0)
    assert [v.field for v in caught.value.violations] == [
        "retry.attempts",
        "retry.initial_backoff",
        "retry.max_backoff",
        "retry.budget",
    ]


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts_of(clock: Clock) -> Attempts:
    return Retrying(Retry(), clock=clock, random=lambda: 0.5).attempts(10.0)


def test_attempts_share_one_deadline() -> None:
    clock = Clock()
    attempts = attempts_of(clock)
    assert attempts.begin() == 10.0
    clock.now += 4.0
    assert attempts.pause(UNAVAILABLE) == pytest.approx(0.1)
    assert attempts.begin() == 6.0
    clock.now += 7.0
    with pytest.raises(Unavailable):
        attempts.pause(UNAVAILABLE)
    assert attempts.begin() == 0.0


def test_giving_up_raises_the_typed_error() -> None:
    attempts = attempts_of(Clock())
    attempts.begin()
    with pytest.raises(Overloaded, match="full"):
        attempts.pause(FULL)


def retried(retrying: Retrying, failure: Failure) -> bool:
    """Whether a call that failed once is tried again."""
    attempts = retrying.attempts(60.0)
    attempts.begin()
    try:
        attempts.pause(failure)
    except (Unavailable, Overloaded):
        return False
    return True


def test_a_server_that_never_answers_is_not_asked_again_and_again() -> None:
    retrying = Retrying(Retry(budget=10))
    assert [retried(retrying, UNAVAILABLE) for _ in range(7)] == [True] * 4 + [False] * 3
    for _ in range(19):  # of 3 that are left, to not more than half of 10
        retrying.attempts(60.0).succeeded()
    assert not retried(retrying, UNAVAILABLE)
    for _ in range(25):
        retrying.attempts(60.0).succeeded()
    assert retried(retrying, UNAVAILABLE)


def test_what_a_server_asks_to_come_back_for_takes_nothing_off() -> None:
    retrying = Retrying(Retry(budget=1))
    assert all(retried(retrying, pushed_back(FULL.code, "10")) for _ in range(50))
    assert not retried(retrying, UNAVAILABLE)


def test_successes_fill_a_budget_and_never_more() -> None:
    retrying = Retrying(Retry(budget=4))
    for _ in range(1000):
        retrying.attempts(60.0).succeeded()
    assert [retried(retrying, UNAVAILABLE) for _ in range(3)] == [True, False, False]
