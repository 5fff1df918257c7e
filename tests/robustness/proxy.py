"""A TCP proxy between a client and a server, that does to the bytes what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from typing import Self

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
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._listener.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        for one, other in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.create_task(self._pass(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
