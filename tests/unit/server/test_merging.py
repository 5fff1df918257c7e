"""Streams that are read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from dragoman_server.web.merging import merged


class Source:
    """Gives its items one after the other, then raises ``error`` or ends; says whether it was closed."""

    def __init__(self, items: list[int], error: Exception | None = None, *, endless: bool = False) -> None:
        self.given = 0
        self.closed = False
        self._items, self._error, self._endless = items, error, endless

    async def stream(self) -> AsyncGenerator[int, None]:
        try:
            for item in self._items:
                self.given += 1
                yield item
            if self._endless:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def test_every_item_comes_once_and_in_its_streams_order() -> None:
    sources = [Source([1, 2, 3]), Source([]), Source([4, 5])]
    found = [pair async for pair in merged([source.stream() for source in sources])]
    assert sorted(found) == [(0, 1), (0, 2), (0, 3), (2, 4), (2, 5)]
    assert [item for number, item in found if number == 0] == [1, 2, 3]
    assert all(source.closed for source in sources)


async def test_what_one_raises_ends_all() -> None:
    sources = [Source([1], endless=True), Source([2], ValueError("broken"))]
    with pytest.raises(ValueError, match="broken"):
        async for _ in merged([source.stream() for source in sources]):
            pass
    assert all(source.closed for source in sources)


async def test_closing_it_closes_all_and_nothing_is_read_ahead() -> None:
    sources = [Source(list(range(1000))), Source([], endless=True)]
    reading = merged([source.stream() for source in sources])
    await anext(reading)
    await asyncio.sleep(0)
    await reading.aclose()
    assert sources[0].given <= 4
    assert all(source.closed for source in sources)
