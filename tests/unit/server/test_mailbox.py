"""From threads to the event loop."""

from __future__ import annotations

import asyncio
import threading

from dragoman_server.service.mailbox import Mailbox


class CountingLoop:
    """The running loop; counts how often it was woken."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.woken = 0

    def call_soon_threadsafe(self, callback: object, *args: object) -> object:
        self.woken += 1
        assert callable(callback)
        return self.loop.call_soon_threadsafe(callback, *args)

    def call_later(self, seconds: float, callback: object, *args: object) -> object:
        assert callable(callback)
        return self.loop.call_later(seconds, callback, *args)


async def test_each_message_of_many_threads_is_delivered_once_and_in_the_order_of_its_thread() -> None:
    loop = CountingLoop()
    mailbox = Mailbox(loop)  # type: ignore[arg-type]
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
    loop = CountingLoop()
    mailbox = Mailbox(loop)  # type: ignore[arg-type]
    received: list[int] = []
    for number in range(100):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert received == list(range(100))
    assert loop.woken == 1
    mailbox.post(lambda: received.append(100))
    await asyncio.sleep(0)
    assert (received[-1], loop.woken) == (100, 2)


async def test_a_message_that_fails_hurts_no_other() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    received: list[int] = []
    for action in (lambda: 1 / 0, lambda: received.append(1)):
        mailbox.post(action)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert received == [1]


async def test_while_it_rests_messages_wait_until_there_are_enough_and_their_order_stays() -> None:
    loop = CountingLoop()
    mailbox = Mailbox(loop)  # type: ignore[arg-type]
    received: list[int] = []
    mailbox.rest(3600, 3)
    for number in range(2):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert (received, loop.woken) == ([], 0)
    for number in range(2, 5):
        mailbox.post(lambda number=number: received.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert (received, loop.woken) == ([0, 1, 2, 3, 4], 1)
    mailbox.post(lambda: received.append(5))  # it rests once
    await asyncio.sleep(0)
    assert (received[-1], loop.woken) == (5, 2)


async def test_a_rest_ends_by_the_clock() -> None:
    loop = CountingLoop()
    mailbox = Mailbox(loop)  # type: ignore[arg-type]
    delivered = asyncio.Event()
    mailbox.rest(0.0, 1000)
    mailbox.post(delivered.set)
    async with asyncio.timeout(30):
        await delivered.wait()
    assert loop.woken == 0


async def test_no_rest_for_a_mailbox_that_was_woken_nor_for_another() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    received: list[int] = []
    mailbox.post(lambda: received.append(1))
    mailbox.rest(3600, 1000)
    await asyncio.sleep(0)
    assert received == [1]
    mailbox.rest(3600, 1000)
    mailbox.another().post(lambda: received.append(2))
    await asyncio.sleep(0)
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
