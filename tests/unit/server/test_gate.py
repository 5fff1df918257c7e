"""When nobody comes to a closed gate any more."""

from __future__ import annotations

import asyncio
import time

import pytest

from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import Unavailable
from dragoman_server.gate import Gate


def closed() -> Gate:
    gate = Gate()
    gate.open(Catalogue([], ""))
    gate.close()
    return gate


def knock(gate: Gate) -> None:
    with pytest.raises(Unavailable), gate.enter():
        pass


async def test_quiet_is_a_pause_without_anybody() -> None:
    gate = closed()
    waiting = asyncio.create_task(gate.wait_quiet(0.2, 60.0))
    for _ in range(5):
        await asyncio.sleep(0.05)
        assert not waiting.done()
        knock(gate)
    came = time.monotonic()
    await waiting
    assert time.monotonic() - came >= 0.2


async def test_a_pause_for_which_the_loop_was_late_is_none() -> None:
    gate = closed()
    loop = asyncio.get_running_loop()
    came: list[float] = []

    def arrive() -> None:
        knock(gate)
        came.append(time.monotonic())

    waiting = asyncio.create_task(gate.wait_quiet(0.1, 60.0))
    await asyncio.sleep(0)
    # Somebody comes while the loop is kept busy for longer than the pause: seen only afterwards.
    time.sleep(0.3)
    loop.call_later(0.05, arrive)
    await waiting
    assert came
    assert time.monotonic() - came[0] >= 0.1


async def test_it_is_waited_for_only_so_long() -> None:
    gate = closed()
    began = time.monotonic()

    async def knocking() -> None:
        while True:
            await asyncio.sleep(0.01)
            knock(gate)

    task = asyncio.create_task(knocking())
    await gate.wait_quiet(5.0, 0.3)
    assert 0.3 <= time.monotonic() - began < 5.0
    task.cancel()


@pytest.mark.parametrize("turns", range(5))
async def test_a_knock_does_not_hide_that_the_wait_is_given_up(turns: int) -> None:
    gate = closed()
    waiting = asyncio.create_task(gate.wait_quiet(5.0, 60.0))
    for _ in range(3):
        await asyncio.sleep(0)
    knock(gate)
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await waiting
