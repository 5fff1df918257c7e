"""A TCP proxy between a client and a server, that does to the bytes what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Coroutine
from typing import Any, Self

_CHUNK = 64 << 10


class Proxy:
    """Passes bytes on between those who connect to ``address`` and the server at ``target``.

    ``delay`` seconds are waited before each piece is passed on, and pieces have at most ``piece`` bytes.
    """

    def __init__(self, target: str, rng: random.Random, *, delay: float = 0.0, piece: int = _CHUNK) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._rng = rng
        self._delay = delay
        self._piece = piece
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        """Of connections that pass bytes on."""
        self._all_writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        # asyncio's own servers lose what they accept in the moment in which they are closed (Python 3.11).
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        await asyncio.sleep(0)  # a task that is cancelled before it began would close nothing
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._all_writers:  # one with bytes that nobody reads is open although it was closed
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def silence(self) -> None:
        """Nothing passes any more in either direction; connections stay, as when a cable is pulled."""
        self._open.clear()

    def reset(self) -> int:
        """Break every connection with RST, in both directions; how many there were."""
        writers = list(self._writers)
        for writer in writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # the other end may have gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(writers) // 2

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # who knocked may have gone
            self._begin(self._join(self._listener.accept()[0]))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
        self._all_writers.append(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._all_writers.append(server_writer)
        self._writers |= {writer, server_writer}
        for one, other in ((reader, server_writer), (server_reader, writer)):
            self._begin(self._pass(one, other))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                while data:
                    await self._open.wait()
                    size = self._rng.randint(1, self._piece) if self._piece < _CHUNK else len(data)
                    if self._delay:
                        await asyncio.sleep(self._rng.uniform(0, 2 * self._delay))
                    writer.write(data[:size])
                    await writer.drain()
                    data = data[size:]
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()
