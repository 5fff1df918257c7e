"""A caller that goes away ends what was begun for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.types import Receive

from dragoman_server.errors import Cancelled

ResultT = TypeVar("ResultT")


async def unless_left(receive: Receive, work: Coroutine[object, object, ResultT]) -> ResultT:
    """The result of ``work``; raises Cancelled, once the work has ended, where the caller leaves first.

    The request's body has been read: all that ``receive`` still has to tell is that the caller left.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Cancelled("the caller went away")
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
