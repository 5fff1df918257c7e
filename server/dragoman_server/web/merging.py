"""Several streams read as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


async def merged(streams: Sequence[AsyncGenerator[ItemT, None]]) -> AsyncGenerator[tuple[int, ItemT], None]:
    """Items as they come, each with its stream's number; what a stream raises ends all of them.

    A stream is not read on before its last item was taken. All have been closed when this has.
    """
    items: asyncio.Queue[tuple[int, ItemT] | Exception | None] = asyncio.Queue(1)

    async def read(number: int, stream: AsyncGenerator[ItemT, None]) -> None:
        try:
            async with contextlib.aclosing(stream):
                async for item in stream:
                    await items.put((number, item))
        except Exception as error:
            await items.put(error)
        else:
            await items.put(None)

    tasks = [asyncio.create_task(read(number, stream)) for number, stream in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            item = await items.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
