"""Answers in input order while a bounded number of them is under way: once for threads, once for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered(
    answer: Callable[[T], R], items: Iterable[T], size: int, cancel: Callable[[], None]
) -> Generator[R, None, None]:
    """``answer`` each item in up to ``size`` threads; ``items`` is read in the caller's, at most ``size`` ahead.

    The first error ends the iteration. ``cancel`` must make the answers under way end soon: it is called when the
    iteration is over, however it ends.
    """
    window: deque[Future[R]] = deque()
    executor = ThreadPoolExecutor(size, thread_name_prefix="dragoman")
    try:
        for item in items:
            window.append(executor.submit(answer, item))
            while window and (len(window) >= size or window[0].done()):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        cancel()
        executor.shutdown(wait=False, cancel_futures=True)


async def ordered_async(
    answer: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], size: int
) -> AsyncGenerator[R, None]:
    """The same in tasks. ``items`` is read by a task of its own, so an answer never waits for the next item.

    The first error, an error of ``items`` included, ends the iteration after the answers before it; what is still
    under way is cancelled and awaited.
    """
    slots = asyncio.Semaphore(size)
    window: asyncio.Queue[asyncio.Future[R] | None] = asyncio.Queue()

    async def feed() -> None:
        try:
            async for item in _each(items):
                await slots.acquire()
                window.put_nowait(asyncio.ensure_future(answer(item)))
        finally:
            window.put_nowait(None)

    feeder = asyncio.create_task(feed())
    try:
        while (future := await window.get()) is not None:
            result = await future
            slots.release()
            yield result
        await feeder
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        under_way = [future for future in (window.get_nowait() for _ in range(window.qsize())) if future is not None]
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
