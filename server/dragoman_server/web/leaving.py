"""A caller that goes away ends what was begun for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from starlette.types import Receive

from dragoman_server.errors import Cancelled

ResultT = TypeVar("ResultT")


async def unless_left(
    receive: Receive, work: Coroutine[object, object, ResultT], answered: Callable[[], bool]
) -> ResultT:
    """The result of ``work``; raises Cancelled, once the work has ended, where the caller leaves first.

    The request's body has been read: all that ``receive`` still has to tell is that the caller left. It says so too
    when the answer is complete, which ``answered`` knows: the work then comes to its own end.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not answered():
            raise Cancelled("the caller went away")
        return await working
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
