"""What HTTP/2 lets a peer do to a server: frames that are none, floods, and bombs."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from dragoman_protos.v1 import inference_pb2
from tests.fuzz.http2_wire import PREFACE, Wire, body

SOUND = inference_pb2.TranslateRequest(text="The old town", target_language="de")

Send = Callable[[Wire], Awaitable[None]]


async def no_http2(to: Wire) -> None:
    """An HTTP/1.1 request."""
    await to.send(b"POST /dragoman.v1.InferenceService/Translate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")


async def noise(to: Wire) -> None:
    """Bytes of no protocol."""
    await to.send(random.Random(3).randbytes(1 << 16))


async def noise_after_the_preface(to: Wire) -> None:
    """A beginning, and then anything."""
    await to.begin()
    await to.send(random.Random(4).randbytes(1 << 16))


async def frames_of_all_kinds(to: Wire) -> None:
    """Sound headers of frames with types, flags, streams and bodies by chance."""
    chance = random.Random(5)
    await to.begin()
    for _ in range(2000):
        length = chance.choice([0, 1, 4, 5, 8, 9, 100])
        head = length.to_bytes(3, "big") + bytes([chance.randrange(12), chance.randrange(256)])
        await to.send(head + chance.choice([0, 1, 2, 3, 5]).to_bytes(4, "big") + chance.randbytes(length))


async def frame_over_the_size(to: Wire) -> None:
    """A frame that says it has 16 MiB."""
    await to.begin()
    await to.send(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 65_536)


async def settings_flood(to: Wire) -> None:
    """5,000 SETTINGS, each of which wants an answer."""
    await to.begin()
    for _ in range(50):
        await to.send(*[SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 1000})] * 100)


async def settings_out_of_range(to: Wire) -> None:
    """Window and frame sizes that no peer may have."""
    await to.send(
        PREFACE, SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: (1 << 32) - 1, SettingsFrame.MAX_FRAME_SIZE: 1})
    )


async def ping_flood(to: Wire) -> None:
    """3,000 pings, far more often than is allowed."""
    await to.begin()
    for _ in range(30):
        await to.send(*[PingFrame(0, b"12345678")] * 100)


async def rapid_reset(to: Wire) -> None:
    """2,000 calls, each given up with its first frame (CVE-2023-44487)."""
    await to.begin()
    for number in range(2000):
        stream = 2 * number + 1
        await to.send(to.headers(stream), body(SOUND.SerializeToString(), stream=stream), RstStreamFrame(stream, 8))


async def continuation_flood(to: Wire) -> None:
    """Headers without an end (CVE-2024-24549)."""
    await to.begin()
    await to.send(to.headers(1, flags=()))
    for number in range(2000):
        await to.send(ContinuationFrame(1, to.encoder.encode([(f"x-{number}", "y" * 1000)])))


async def headers_over_the_limit(to: Wire) -> None:
    """Metadata of 64 KiB in frames of an allowed size."""
    await to.begin()
    block = to.encoder.encode([("x-large", "y" * 65_536)])
    await to.send(to.headers(1, flags=()))
    for at in range(0, len(block), 16_000):
        flags = ["END_HEADERS"] if at + 16_000 >= len(block) else []
        await to.send(ContinuationFrame(1, block[at : at + 16_000], flags=flags))
    await to.send(body(SOUND.SerializeToString()))


async def hpack_bomb(to: Wire) -> None:
    """One entry of 3 KiB in the table, named 4,000 times by a byte each: 12 MiB of headers in 8 KiB."""
    await to.begin()
    await to.send(to.headers(1, [("x-bomb", "y" * 3000)]), body(SOUND.SerializeToString()))
    index = b"\xbe"  # the newest entry of the dynamic table
    for stream in (3, 5, 7):
        frame = to.headers(stream)
        frame.data += index * 4000
        await to.send(frame, body(SOUND.SerializeToString(), stream=stream))


async def hpack_noise(to: Wire) -> None:
    """Header blocks that cannot be decoded."""
    await to.begin()
    for stream in range(1, 41, 2):
        frame = to.headers(stream)
        frame.data = random.Random(stream).randbytes(200)
        await to.send(frame)


async def gzip_bomb(to: Wire) -> None:
    """A message of 56 MiB in 56 KiB."""
    await to.begin()
    bomb = await asyncio.to_thread(gzip.compress, bytes(56 << 20), 6)
    await to.send(to.headers(1, [("grpc-encoding", "gzip")]))
    whole = bytes([1]) + len(bomb).to_bytes(4, "big") + bomb
    for at in range(0, len(whole), 16_000):
        await to.send(DataFrame(1, whole[at : at + 16_000], flags=["END_STREAM"] if at + 16_000 >= len(whole) else []))
        await asyncio.sleep(0)


async def gzip_noise(to: Wire) -> None:
    """Messages that are said to be compressed and are not, or in ways that nobody knows."""
    await to.begin()
    for number, coding in enumerate(("gzip", "deflate", "zstd", "identity", "")):
        stream = 2 * number + 1
        await to.send(to.headers(stream, [("grpc-encoding", coding)]), body(b"no gzip", stream=stream, compressed=1))


async def lengths_that_lie(to: Wire) -> None:
    """gRPC frames that announce other lengths than they have, or are marked with unknown flags."""
    await to.begin()
    for number, (length, compressed) in enumerate([((1 << 32) - 1, 0), (5, 0), (1000, 0), (7, 2), (7, 255)]):
        stream = 2 * number + 1
        await to.send(to.headers(stream), body(b"\x0a\x05hello", stream=stream, length=length, compressed=compressed))


async def no_grpc(to: Wire) -> None:
    """Other content types, methods and paths."""
    await to.begin()
    base = [(":scheme", "http"), (":authority", "x")]
    calls = [
        [(":method", "POST"), (":path", "/dragoman.v1.InferenceService/Translate"), ("content-type", "text/plain")],
        [(":method", "POST"), (":path", "/dragoman.v1.InferenceService/Translate")],
        [
            (":method", "GET"),
            (":path", "/dragoman.v1.InferenceService/Translate"),
            ("content-type", "application/grpc"),
        ],
        [(":method", "PUT"), (":path", "/"), ("content-type", "application/grpc")],
        [(":method", "POST"), (":path", "/" + "a/" * 2000), ("content-type", "application/grpc"), ("te", "trailers")],
        [(":method", "POST"), (":path", "no slash"), ("content-type", "application/grpc"), ("te", "trailers")],
        [(":method", "POST"), (":path", "/a/\x00\x7f"), ("content-type", "application/grpc"), ("te", "trailers")],
        [("content-type", "application/grpc")],
    ]
    for number, given in enumerate(calls):
        stream = 2 * number + 1
        await to.send(to.headers(stream, given=[*base, *given]), body(b"", stream=stream))


async def metadata_that_is_none(to: Wire) -> None:
    """Deadlines, binary entries and names that break gRPC's rules."""
    await to.begin()
    entries = [
        ("grpc-timeout", "99999999999999999999H"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", ""),
        ("x-noise-bin", "not base64 !!!"),
        ("authorization", "Bearer \x01\x02"),
        ("X-Upper", "case"),
        ("connection", "keep-alive"),
        ("x-request-id", "a" * 5000),
        ("traceparent", "00-zz-zz-zz"),
        ("grpc-accept-encoding", "," * 1000),
    ]
    for number, entry in enumerate(entries):
        stream = 2 * number + 1
        await to.send(to.headers(stream, [entry]), body(SOUND.SerializeToString(), stream=stream))


async def windows_over_the_limit(to: Wire) -> None:
    """Windows of more than 2^31 - 1, and steps of 0."""
    await to.begin()
    await to.send(to.headers(1), WindowUpdateFrame(1, (1 << 31) - 1), WindowUpdateFrame(1, (1 << 31) - 1))
    await to.send(WindowUpdateFrame(0, (1 << 31) - 1), WindowUpdateFrame(0, (1 << 31) - 1), WindowUpdateFrame(0, 1))


async def more_than_the_window(to: Wire) -> None:
    """More data than the server has asked for."""
    await to.begin()
    await to.send(to.headers(1))
    for _ in range(1024):
        await to.send(DataFrame(1, b"x" * 16_384))


async def writes_after_the_end(to: Wire) -> None:
    """Data and headers on streams that are closed, never were, or are the server's."""
    await to.begin()
    await to.send(to.headers(1), body(SOUND.SerializeToString()), DataFrame(1, b"more"), to.headers(1))
    await to.send(DataFrame(99, b"x"), to.headers(2), RstStreamFrame(1001, 0))
    await to.send(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # data of no stream


async def empty_frames(to: Wire) -> None:
    """10,000 frames without data on one stream (CVE-2019-9518)."""
    await to.begin()
    await to.send(to.headers(1))
    for _ in range(100):
        await to.send(*[DataFrame(1, b"")] * 100)


async def priority_flood(to: Wire) -> None:
    """5,000 changes of priorities (CVE-2019-9513)."""
    await to.begin()
    for number in range(5000):
        await to.send(
            PriorityFrame(2 * (number % 50) + 1, depends_on=2 * (number % 49) + 3, stream_weight=number % 256)
        )


async def calls_without_an_end(to: Wire) -> None:
    """1,200 calls that never send their message; more than a connection may have."""
    await to.begin()
    for number in range(1200):
        await to.send(to.headers(2 * number + 1))


ATTACKS: tuple[Send, ...] = (
    no_http2,
    noise,
    noise_after_the_preface,
    frames_of_all_kinds,
    frame_over_the_size,
    settings_flood,
    settings_out_of_range,
    ping_flood,
    rapid_reset,
    continuation_flood,
    headers_over_the_limit,
    hpack_bomb,
    hpack_noise,
    gzip_bomb,
    gzip_noise,
    lengths_that_lie,
    no_grpc,
    metadata_that_is_none,
    windows_over_the_limit,
    more_than_the_window,
    writes_after_the_end,
    empty_frames,
    priority_flood,
    calls_without_an_end,
)
