"""From threads to the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable

import pytest

from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.waking import Waking


class CountingWaking(Waking):
    """Counts how often the loop was woken."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.woken = 0

    def call(self, callback: Callable[[], None]) -> None:
        self.woken += 1
        super().call(callback)


async def _delivery() -> None:
    """What was posted is delivered: the loop looks at what has woken it, then runs it."""
    for _ in range(2):
        await asyncio.sleep(0)


async def test_each_message_of_many_threads_is_delivered_once_and_in_the_order_of_its_thread() -> None:
    waking = CountingWaking()
    mailbox = Mailbox(asyncio.get_running_loop(), waking)
    received: list[tuple[int, int]] = []

    def post(thread: int) -> None:
        for number in range(2000):
            mailbox.post(lambda number=number: received.append((thread, number)))  # type: ignore[misc]

    threads = [threading.Thread(target=post, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        while len(received) < 8000:
            await asyncio.sleep(0.001)
    for i in range(4):
        assert [number for thread, number in received if thread == i] == list(range(2000))


async def test_one_wake_up_for_all_that_has_come_meanwhile() -> None:
    waking = CountingWaking()
    mailbox = Mailbox(asyncio.get_running_loop(), waking)
    received: list[int] = []
    for number in range(100):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await _delivery()
    assert received == list(range(100))
    assert waking.woken == 1
    mailbox.post(lambda: received.append(100))
    await _delivery()
    assert (received[-1], waking.woken) == (100, 2)


async def test_a_message_that_fails_hurts_no_other() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    received: list[int] = []
    for action in (lambda: 1 / 0, lambda: received.append(1)):
        mailbox.post(action)  # type: ignore[arg-type]
    await _delivery()
    assert received == [1]


async def test_while_it_rests_messages_wait_until_there_are_enough_and_their_order_stays() -> None:
    waking = CountingWaking()
    mailbox = Mailbox(asyncio.get_running_loop(), waking)
    received: list[int] = []
    mailbox.rest(3600, 3)
    for number in range(2):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await _delivery()
    assert (received, waking.woken) == ([], 0)
    for number in range(2, 5):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await _delivery()
    assert (received, waking.woken) == ([0, 1, 2, 3, 4], 1)
    mailbox.post(lambda: received.append(5))  # it rests once
    await _delivery()
    assert (received[-1], waking.woken) == (5, 2)


async def test_a_rest_ends_by_the_clock() -> None:
    waking = CountingWaking()
    mailbox = Mailbox(asyncio.get_running_loop(), waking)
    delivered = asyncio.Event()
    mailbox.rest(0.0, 1000)
    mailbox.post(delivered.set)
    async with asyncio.timeout(30):
        await delivered.wait()
    assert waking.woken == 0


async def test_no_rest_for_a_mailbox_that_was_woken_nor_for_another() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    received: list[int] = []
    mailbox.post(lambda: received.append(1))
    mailbox.rest(3600, 1000)
    await _delivery()
    assert received == [1]
    mailbox.rest(3600, 1000)
    mailbox.another().post(lambda: received.append(2))
    await _delivery()
    assert received == [1, 2]


async def test_many_threads_lose_nothing_to_a_mailbox_that_rests_again_and_again() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    received: list[tuple[int, int]] = []

    def take(thread: int, number: int) -> None:
        received.append((thread, number))
        mailbox.rest(0.001, 16)

    def post(thread: int) -> None:
        for number in range(2000):
            mailbox.post(lambda number=number: take(thread, number))  # type: ignore[misc]

    threads = [threading.Thread(target=post, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        while len(received) < 8000:
            await asyncio.sleep(0.001)
    for i in range(4):
        assert [number for thread, number in received if thread == i] == list(range(2000))


async def test_a_loop_that_sleeps_is_woken() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    delivered = asyncio.Event()
    threading.Timer(0.01, mailbox.post, [delivered.set]).start()
    async with asyncio.timeout(30):
        await delivered.wait()


async def test_more_wake_ups_than_a_pipe_holds_lose_nothing() -> None:
    waking = Waking(asyncio.get_running_loop())
    received: list[int] = []
    for number in range(100_000):
        waking.call(lambda number=number: received.append(number))  # type: ignore[misc]
    await _delivery()
    assert received == list(range(100_000))


def test_a_closed_loop_refuses_and_its_files_are_closed() -> None:
    loop = asyncio.new_event_loop()
    waking = Waking(loop)
    files = waking.files
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        waking.call(lambda: None)
    del waking
    gc.collect()
    for file in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)
