"""One HTTP/2 connection that a test holds in its hands: what gRPC does by itself is done, or left, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from google.protobuf.message import Message
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

PATIENCE = 30.0
"""Seconds for anything that has to happen."""

Header = tuple[str, str]


@dataclass
class RawCall:
    """What has come back on one stream."""

    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the beginning and of the end."""
    ended: bool = False
    reset: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.reset


class RawConnection:
    """Speaks HTTP/2 as a client. Flow control opens only where ``take`` says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self.reader, self.writer = reader, writer
        self.http2 = H2Connection(H2Configuration(client_side=True))
        self.http2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.http2.initiate_connection()
        self.calls: dict[int, RawCall] = {}
        self.closed = False

    async def flush(self) -> None:
        """Send what the state machine has to say."""
        self.writer.write(self.http2.data_to_send())
        await self.writer.drain()

    async def call(
        self, path: str, *messages: Message | bytes, headers: Sequence[Header] = (), end: bool = True
    ) -> int:
        """Begin a call with these messages, each in gRPC's frame; returns the stream's number."""
        stream = self.http2.get_next_available_stream_id()
        self.calls[stream] = RawCall()
        self.http2.send_headers(stream, [*request_headers(path), *headers])
        body = b"".join(map(framed, messages))
        self.http2.send_data(stream, body, end_stream=end)
        await self.flush()
        return stream

    async def take(self, stream: int, size: int) -> None:
        """Let so many bytes more come, on the stream and on the connection."""
        self.http2.increment_flow_control_window(size, stream)
        self.http2.increment_flow_control_window(size)
        await self.flush()

    async def read_until(self, done: Callable[[], bool]) -> None:
        """Read until ``done()``, or until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            while not (done() or self.closed):
                await self.read()

    async def read(self) -> list[Event]:
        """What comes next; empty at the end of the connection."""
        received = await self.reader.read(1 << 16)
        if not received:
            self.closed = True
            return []
        events = self.http2.receive_data(received)
        for event in events:
            self._note(event)
        await self.flush()
        return events

    async def finish(self, stream: int) -> RawCall:
        """The call, when it is over."""
        await self.read_until(lambda: self.calls[stream].over)
        return self.calls[stream]

    def _note(self, event: Event) -> None:
        call = self.calls.get(getattr(event, "stream_id", None) or 0)
        if call is None:
            return
        match event:
            case DataReceived():
                call.data += event.data or b""
            case ResponseReceived() | TrailersReceived():
                call.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case StreamEnded():
                call.ended = True
            case StreamReset():
                call.reset = True


@asynccontextmanager
async def raw_connection(address: str, *, window: int = 65_535) -> AsyncIterator[RawConnection]:
    """A connection to HOST:PORT whose streams take at first ``window`` bytes each."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    connection = RawConnection(reader, writer, window)
    await connection.flush()
    try:
        yield connection
    finally:
        writer.close()


def request_headers(path: str, content_type: str = "application/grpc") -> list[Header]:
    """Those of every gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", content_type),
        ("te", "trailers"),
    ]


def framed(message: Message | bytes) -> bytes:
    """A message with gRPC's five bytes before it: not compressed, and its length."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
