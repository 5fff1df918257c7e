"""The five invariants, as pure functions over a history: what they return are its violations.

1. When nothing is asked, every row is free, and nothing waits, runs or is inside.
2. Every request ends exactly once, and as the fault allows.
3. Its answer is the one that it has alone: tokens, text and scores, to the bit.
4. Nothing comes after the end, and what a stream called final stays.
5. Memory, file descriptors and threads return to their level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.robustness.asks import Answer
from tests.robustness.history import Begun, Ended, Event, Observed, Piece, Reading, Unexpected

DESCRIPTORS = 8
"""gRPC keeps a few for its pollers, which it makes as it needs them; a connection that leaks is one for each."""
ALLOCATED = 32.0
"""MiB of malloc, without the holes in the heap that resident memory has. What is made on first use stays (23 were
seen); a model that is kept takes 40."""
THREADS = 12
"""The pool of asyncio (cores + 4) and those of gRPC come as they are needed, and stay."""


@dataclass(frozen=True)
class Violation:
    """Which invariant was broken, and by what."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def violations(events: Sequence[Event], alone: Mapping[str, Answer]) -> list[Violation]:
    """Everything in the history that breaks an invariant. ``alone``: the answer to each ask when it was alone."""
    return [
        *idle_is_free(events),
        *each_ends_once(events),
        *same_as_alone(events, alone),
        *nothing_after_the_end(events, alone),
        *memory_returns(events),
        *quiet_logs(events),
        *(Violation("expected of the fault", event.what) for event in events if isinstance(event, Unexpected)),
    ]


def idle_is_free(events: Sequence[Event]) -> Iterator[Violation]:
    """Invariant 1."""
    for server, before, after in _pairs(events):
        held = {
            "rows in use": after.reading.rows_used,
            "requests waiting": after.reading.waiting,
            "requests running": after.reading.running,
            "calls inside": after.reading.in_flight,
        }
        for what, count in held.items():
            if count:
                yield Violation("idle is free", f"{server}: {count} {what}")
        if after.reading.rows_free != before.reading.rows_free:
            was, now = before.reading.rows_free, after.reading.rows_free
            yield Violation("idle is free", f"{server}: {now} rows free, {was} before")


def each_ends_once(events: Sequence[Event]) -> Iterator[Violation]:
    """Invariant 2."""
    begun = {event.request: event for event in events if isinstance(event, Begun)}
    ends: dict[str, list[str]] = {request: [] for request in begun}
    for event in events:
        if isinstance(event, Ended):
            ends.setdefault(event.request, []).append(event.status)
            first = begun.get(event.request)
            if first is not None and event.status not in first.may:
                allowed = ", ".join(first.may)
                yield Violation("ends once", f"{event.request}: {event.status} ({event.detail}), allowed: {allowed}")
    for request, statuses in ends.items():
        if request not in begun:
            yield Violation("ends once", f"{request}: ended without having begun")
        elif len(statuses) != 1:
            yield Violation("ends once", f"{request}: ended {len(statuses)} times {', '.join(statuses)}".rstrip())


def same_as_alone(events: Sequence[Event], alone: Mapping[str, Answer]) -> Iterator[Violation]:
    """Invariant 3."""
    asks = {event.request: event.ask for event in events if isinstance(event, Begun)}
    for event in events:
        if not isinstance(event, Ended) or event.status != "OK":
            continue
        expected = alone.get(asks.get(event.request, ""))
        if expected is None:
            yield Violation("same as alone", f"{event.request}: answered, but never asked alone")
        elif event.text != expected.text:
            yield Violation("same as alone", f"{event.request}: {event.text!r}, alone {expected.text!r}")
        elif event.fingerprint != expected.fingerprint:
            yield Violation("same as alone", f"{event.request}: the same text, but other tokens or scores")


def nothing_after_the_end(events: Sequence[Event], alone: Mapping[str, Answer]) -> Iterator[Violation]:
    """Invariant 4. What was streamed must be the beginning of the answer, and all of it where there is one."""
    asks: dict[str, str] = {}
    streamed: dict[str, str] = {}
    over: set[str] = set()
    for event in events:
        if isinstance(event, Begun):
            asks[event.request] = event.ask
        elif isinstance(event, Piece):
            if event.request in over:
                yield Violation("nothing after the end", f"{event.request}: {event.delta!r} after the last chunk")
                continue
            text = streamed[event.request] = streamed.get(event.request, "") + event.delta
            expected = alone.get(asks.get(event.request, ""))
            if expected is not None and not expected.text.startswith(text):
                over.add(event.request)
                yield Violation("nothing after the end", f"{event.request}: final {text!r}, alone {expected.text!r}")
            if event.last:
                over.add(event.request)
        elif isinstance(event, Ended):
            over.add(event.request)
            text = streamed.get(event.request, event.text)
            if event.status == "OK" and text != event.text:
                yield Violation("nothing after the end", f"{event.request}: streamed {text!r}, answer {event.text!r}")


def memory_returns(events: Sequence[Event]) -> Iterator[Violation]:
    """Invariant 5."""
    for server, before, after in _pairs(events):
        yield from (Violation("memory returns", f"{server}: {what}") for what in grown(before.reading, after))


def quiet_logs(events: Sequence[Event]) -> Iterator[Violation]:
    """Not one of the five, but a sign of something that nobody was told: a server logs errors under such faults alone
    that are its own."""
    for server, before, after in _pairs(events):
        count = after.reading.errors - before.reading.errors
        if count and not after.errors_allowed:
            yield Violation("expected of the fault", f"{server}: {count} lines at level error in its log")


def grown(before: Reading, after: Observed) -> list[str]:
    """What has not returned to its level, within the bounds."""
    bounds = {
        "MiB resident": (before.resident, after.reading.resident, after.resident_bound),
        "MiB allocated": (before.allocated, after.reading.allocated, ALLOCATED),
        "file descriptors": (before.descriptors, after.reading.descriptors, DESCRIPTORS),
        "threads": (before.threads, after.reading.threads, THREADS),
    }
    return [
        f"{now:.0f} {what}, {was:.0f} before, {bound:.0f} more allowed"
        for what, (was, now, bound) in bounds.items()
        if now > was + bound
    ]


def _pairs(events: Sequence[Event]) -> Iterator[tuple[str, Observed, Observed]]:
    """Each server that was looked at before and after, with the first look and the last."""
    before: dict[str, Observed] = {}
    after: dict[str, Observed] = {}
    for event in events:
        if isinstance(event, Observed):
            (before if event.moment == "before" else after)[event.server] = event
    for server, last in after.items():
        if server in before:
            yield server, before[server], last
