"""The invariants over histories made by hand: what is sound passes, and each kind of breach is found by its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.robustness.asks import Answer
from tests.robustness.history import Begun, Ended, Event, History, Injected, Observed, Piece, Reading, Unexpected, read
from tests.robustness.invariants import DESCRIPTORS, THREADS, violations

ALONE = {"a": Answer("f1", "Das Haus."), "b": Answer("f2", "Der Hund.")}
IDLE = Reading(rows_used=0, rows_free=32, waiting=0, running=0, in_flight=0, resident=200.0, descriptors=20, threads=16)


def begun(request: str = "a#1", *, way: str = "call", may: tuple[str, ...] = ("OK",)) -> Begun:
    return Begun(0.0, request, request[0], way, "standing", may)


def ended(request: str = "a#1", status: str = "OK", *, fingerprint: str = "", text: str = "") -> Ended:
    answer = ALONE[request[0]]
    found = Ended(1.0, request, status)
    if status == "OK":
        found = replace(found, fingerprint=fingerprint or answer.fingerprint, text=text or answer.text, version="1")
    return found


def piece(delta: str, *, last: bool = False, request: str = "a#1") -> Piece:
    return Piece(0.5, request, delta, "", last)


def observed(moment: str, **changed: float) -> Observed:
    reading = Reading(**{**IDLE.__dict__, **changed})
    assert moment in {"before", "after"}
    return Observed(2.0, "standing", "before" if moment == "before" else "after", reading, 64.0)


SOUND: list[Event] = [
    observed("before"),
    begun("a#1"),
    begun("b#2", way="stream", may=("CANCELLED", "OK")),
    Injected(0.1, "something"),
    piece("Der ", request="b#2"),
    piece("Hund.", request="b#2", last=True),
    ended("b#2"),
    ended("a#1"),
    observed("after", resident=250.0, descriptors=22, threads=18),
]


def test_a_sound_history_has_no_violation() -> None:
    assert violations(SOUND, ALONE) == []


def test_a_cancelled_stream_may_end_in_the_middle_of_its_text() -> None:
    events: list[Event] = [begun(way="stream", may=("CANCELLED",)), piece("Das "), ended(status="CANCELLED")]
    assert violations(events, ALONE) == []


@pytest.mark.parametrize(
    ("invariant", "events"),
    [
        ("idle is free", [observed("before"), observed("after", rows_used=1)]),
        ("idle is free", [observed("before"), observed("after", rows_free=31)]),
        ("idle is free", [observed("before"), observed("after", waiting=2)]),
        ("idle is free", [observed("before"), observed("after", running=1)]),
        ("idle is free", [observed("before"), observed("after", in_flight=1)]),
        ("ends once", [begun()]),
        ("ends once", [begun(), ended(), ended()]),
        ("ends once", [begun(), ended(status="INTERNAL")]),
        ("ends once", [begun(may=("CANCELLED",)), ended()]),
        ("ends once", [begun(), ended(), Ended(1.0, "nobody's item 7", "CANCELLED")]),
        ("same as alone", [begun(), ended(text="Der Hund.", fingerprint="f2")]),
        ("same as alone", [begun(), ended(fingerprint="another score")]),
        ("nothing after the end", [begun(), piece("Das Haus.", last=True), piece(" Oder?"), ended()]),
        ("nothing after the end", [begun(), piece("Das Haus.", last=True), ended(), piece("")]),
        ("nothing after the end", [begun(), piece("Das Haus.", last=True), piece("", last=True), ended()]),
        ("nothing after the end", [begun(), piece("Der "), ended()]),
        ("nothing after the end", [begun(), piece("Das ", last=True), ended()]),
        ("memory returns", [observed("before"), observed("after", resident=265.0)]),
        ("memory returns", [observed("before"), observed("after", descriptors=20 + DESCRIPTORS + 1)]),
        ("memory returns", [observed("before"), observed("after", threads=16 + THREADS + 1)]),
        ("expected of the fault", [observed("before"), observed("after", errors=1)]),
        ("expected of the fault", [Unexpected(1.0, "version 2 was loaded")]),
    ],
)
def test_each_breach_is_found(invariant: str, events: list[Event]) -> None:
    assert {violation.invariant for violation in violations(events, ALONE)} == {invariant}


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    ticks = iter(range(100))
    history = History("none", clock=lambda: float(next(ticks)))
    request = history.begin("a", "stream", "standing", {"OK", "CANCELLED"})
    history.piece(request, "Das ", "Haus", last=False)
    history.end(request, "RESOURCE_EXHAUSTED", detail="full", retry_after=0.5)
    history.observe("standing", "before", IDLE, resident_bound=64.0)
    history.injected("a fault")
    history.expect(True, "never seen")
    history.expect(False, "seen")
    history.write(tmp_path / "none.jsonl")
    assert read(tmp_path / "none.jsonl") == history.events
    assert isinstance(history.events[-1], Unexpected)
