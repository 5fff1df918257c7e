"""The server's event loop leaves polls out while it has callbacks to run, and loses nothing by it."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys

from dragoman_server.event_loop import SeldomPolling, new_event_loop, switch_soon


def _readable() -> tuple[SeldomPolling, int, int]:
    selector = SeldomPolling()
    reads, writes = os.pipe()
    selector.register(reads, selectors.EVENT_READ)
    os.write(writes, b"\0")
    return selector, reads, writes


def test_events_are_seen_at_once_where_the_loop_would_wait() -> None:
    selector, *ends = _readable()
    with selector:
        for timeout in (None, 0.001):
            ((key, _),) = selector.select(timeout)
            assert key.fd == ends[0]
    for end in ends:
        os.close(end)


def test_without_waiting_they_are_seen_every_ninth_time() -> None:
    selector, *ends = _readable()
    with selector:
        found = [len(selector.select(0)) for _ in range(18)]
    assert found == ([0] * 8 + [1]) * 2
    for end in ends:
        os.close(end)


def test_a_loop_that_never_rests_hears_what_comes_from_outside() -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        busy = True

        def again() -> None:
            if busy:
                loop.call_soon(again)

        again()
        with near, far:
            far.send(b"a byte")
            async with asyncio.timeout(30):
                heard = await loop.sock_recv(near, 16)
        busy = False
        return heard

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(run()) == b"a byte"


def test_timers_and_threads_wake_it() -> None:
    async def run() -> list[str]:
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.001)
        heard.append("clock")
        await loop.run_in_executor(None, heard.append, "thread")
        return heard

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(run()) == ["clock", "thread"]


def test_who_wants_the_interpreters_lock_waits_less() -> None:
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.005)  # as Python by itself does
        switch_soon()
        assert sys.getswitchinterval() < 0.001
    finally:
        sys.setswitchinterval(before)
