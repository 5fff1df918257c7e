"""What a soak finds wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.soak.verdict import faults
from tests.soak.watching import Sample

IDLE = Sample(
    seconds=1.0,
    requests=100,
    rss=300.0,
    pss=280.0,
    private_dirty=260.0,
    anonymous=200.0,
    heap_used=120.0,
    heap_free=20.0,
    threads=20,
    files=18,
    rows_used=0,
    rows_free=768,
    waiting=0,
    running=0,
    calls=0,
)


def looks(**end: Any) -> dict[str, Sample]:
    return {"before": replace(IDLE, rss=200.0, files=15, threads=12), "halfway": IDLE, "end": replace(IDLE, **end)}


def test_a_server_that_holds_no_more_than_halfway_is_well() -> None:
    assert faults(looks(), []) == []
    assert faults(looks(rss=314.0, heap_used=121.0, threads=21), []) == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"rss": 316.0}, "resident memory grew from 300.0 to 316.0 MiB, by 5.3%"),
        ({"heap_used": 123.0}, "what is allocated grew from 120.0 to 123.0 MiB, by 2.5%"),
        ({"rows_used": 1}, "end: rows_used = 1 while nobody asks"),
        ({"waiting": 2}, "end: waiting = 2 while nobody asks"),
        ({"running": 3}, "end: running = 3 while nobody asks"),
        ({"calls": 4}, "end: calls = 4 while nobody asks"),
        ({"rows_free": 767}, "end: rows_free = 767, at first 768"),
        ({"files": 19}, "file descriptors: 19 at the end, 18 halfway"),
        ({"threads": 22}, "threads: 22 at the end, 20 halfway"),
    ],
)
def test_whatever_is_still_held_is_named(end: dict[str, Any], said: str) -> None:
    assert faults(looks(**end), []) == [said]


def test_failed_requests_are_counted_and_one_is_shown() -> None:
    assert faults(looks(), ["greedy: InternalError: x", "beam: y"]) == [
        "2 requests failed, such as: greedy: InternalError: x"
    ]
