"""Sends a stream's answers, and frees what the stream holds where its reader takes nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import structlog

from dragoman_server.errors import Cancelled
from dragoman_server.telemetry.calls import CALL

_log = structlog.get_logger(__name__)


async def send(
    answers: AsyncGenerator[object, Any], write: Callable[[object], Awaitable[object]], *, seconds: float
) -> None:
    """Write every answer; ``answers`` is closed at the end, however it comes.

    gRPC buffers no more of a stream than its reader has asked for, so ``write`` waits for the reader. Where one answer
    waits for ``seconds``, ``answers`` is closed there and then: rows, models and the place inside the gate are free.
    Raises Cancelled in the end, as soon as the reader takes the answer that waits: no status can overtake it. A reader
    that never does is left to its deadline and to keepalive.
    """
    loop = asyncio.get_running_loop()
    given_up: asyncio.Task[None] | None = None

    def give_up() -> None:
        nonlocal given_up
        given_up = asyncio.create_task(_freed(answers, seconds))

    try:
        async for answer in answers:
            timer = loop.call_later(seconds, give_up)
            try:
                await write(answer)
            finally:
                timer.cancel()
            if given_up is not None:
                raise Cancelled(f"nothing was read for {seconds:g} seconds: the stream was given up")
    finally:
        if given_up is None:
            # Closed at once when the call ends early: what it had begun is given up then, not at some later time.
            await answers.aclose()
        else:
            await given_up


async def _freed(answers: AsyncGenerator[object, Any], seconds: float) -> None:
    if (call := CALL.get()) is not None:
        call.given_up = True
    _log.warning("nothing was read of a stream: it is given up", seconds=seconds)
    await answers.aclose()
