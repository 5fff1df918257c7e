"""An HTTP/2 connection without rules: any frames go out, and what comes back is noted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.contract.raw_http2 import Header, request_headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TRANSLATE = "/dragoman.v1.InferenceService/Translate"
_QUIET = 0.15
"""Seconds without a byte after which nothing more is expected."""
_MOST_READING = 5.0


@dataclass
class Reaction:
    """What a server did to a connection."""

    goaways: list[int] = field(default_factory=list)
    """Error codes of HTTP/2."""
    resets: list[int] = field(default_factory=list)
    statuses: list[tuple[str, str]] = field(default_factory=list)
    """Of gRPC: number and text."""
    http: list[str] = field(default_factory=list)
    """Statuses of HTTP."""
    closed: bool = False

    def __str__(self) -> str:
        told = []
        if self.http:
            told.append("HTTP " + ", ".join(sorted(set(self.http))))
        if self.statuses:
            told.append("gRPC " + ", ".join(sorted({code for code, _ in self.statuses})))
        if self.resets:
            told.append(f"{len(self.resets)} resets ({', '.join(map(str, sorted(set(self.resets))))})")
        if self.goaways:
            told.append(f"GOAWAY {', '.join(map(str, sorted(set(self.goaways))))}")
        if self.closed:
            told.append("closed")
        return "; ".join(told) or "nothing"


class Wire:
    """Sends what it is given. A connection that the server closes meanwhile is no fault."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(max_header_list_size=1 << 20)
        self._received = b""
        self.encoder = Encoder()
        self.sent = 0
        """Frames, or pieces."""
        self.reaction = Reaction()

    async def send(self, *pieces: Frame | bytes) -> None:
        """Frames, or bytes that are none."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if self._writer.transport.is_closing():
                    return
                self._writer.write(piece if isinstance(piece, bytes) else piece.serialize())
                self.sent += 1
            async with asyncio.timeout(_MOST_READING):
                await self._writer.drain()

    async def begin(self) -> None:
        """A sound beginning of a connection."""
        await self.send(PREFACE, SettingsFrame(0))

    def headers(
        self,
        stream: int,
        more: Iterable[Header] = (),
        *,
        given: Sequence[Header] | None = None,
        flags: Sequence[str] = ("END_HEADERS",),
    ) -> HeadersFrame:
        """A call of Translate, or ``given`` headers."""
        every = [*(request_headers(TRANSLATE) if given is None else given), *more]
        return HeadersFrame(stream, self.encoder.encode(every), flags=list(flags))

    async def listen(self, most: float = _MOST_READING, quiet: float = _QUIET) -> Reaction:
        """Note what comes until nothing does, or the connection is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                while not self.reaction.closed:
                    try:
                        received = await asyncio.wait_for(self._reader.read(1 << 16), quiet)
                    except ConnectionError:
                        received = b""
                    self.reaction.closed = not received
                    self._received += received
                    await self._note()
        return self.reaction

    async def _note(self) -> None:
        while len(self._received) >= 9:
            try:
                frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
                if len(self._received) < 9 + length:
                    return
                frame.parse_body(memoryview(self._received[9 : 9 + length]))
            except HyperframeError:
                self._received = b""
                return
            self._received = self._received[9 + length :]
            if isinstance(frame, GoAwayFrame):
                self.reaction.goaways.append(frame.error_code)
            elif isinstance(frame, RstStreamFrame):
                self.reaction.resets.append(frame.error_code)
            elif isinstance(frame, HeadersFrame):
                self._note_headers(frame)
            elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                await self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                await self.send(SettingsFrame(0, flags=["ACK"]))

    def _note_headers(self, frame: HeadersFrame) -> None:
        try:
            found = {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
        except HPACKError:
            return
        if ":status" in found:
            self.reaction.http.append(found[":status"])
        if "grpc-status" in found:
            self.reaction.statuses.append((found["grpc-status"], unquote(found.get("grpc-message", ""))))


@asynccontextmanager
async def wire(address: str) -> AsyncIterator[Wire]:
    """A connection to HOST:PORT over which nothing has gone yet."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def body(
    message: bytes, *, stream: int = 1, compressed: int = 0, length: int | None = None, end: bool = True
) -> DataFrame:
    """A message in gRPC's frame, in one frame of HTTP/2; ``length`` is what is said of it."""
    said = len(message) if length is None else length
    data = bytes([compressed]) + said.to_bytes(4, "big") + message
    return DataFrame(stream, data, flags=["END_STREAM"] if end else [])
