"""What the HTTP port does not take: other origins, other names, other types, too much, too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.web.limits import HttpLimits
from tests.contract.web import SECONDS, Web, web

ASKED = {"text": "guten tag", "target_language": "en"}
PATHS = ("/v1/translate", "/v1/translate/stream", "/v1/generate", "/v1/completions", "/v1/embeddings", "/v1/explain")


async def said(here: Web, sent: bytes, *, then: bytes = b"", pause: float = 0.0) -> bytes:
    """All that is answered until the server closes the connection."""
    host, _, port = here.http.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    if then:
        await asyncio.sleep(pause)
        writer.write(then)
    answer = await asyncio.wait_for(reader.read(), SECONDS)
    writer.close()
    return answer


async def dripping(here: Web, sent: bytes) -> bytes:
    """The same, while a byte is sent again and again."""
    host, _, port = here.http.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    dropping = asyncio.create_task(drip())
    answer = bytearray()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while piece := await reader.read(1000):
                answer += piece
    dropping.cancel()
    writer.close()
    return bytes(answer)


def head(path: str = "/v1/translate", *lines: str) -> bytes:
    given = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", *lines]
    return "\r\n".join([*given, "", ""]).encode()


async def test_a_page_of_another_origin_may_not_call() -> None:
    async with web() as here:
        own = f"http://{here.http}"
        for allowed in ({"origin": own}, {"origin": own, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
            assert (await here.client.post("/v1/translate", json=ASKED, headers=allowed)).status_code == 200
        for path in PATHS:
            for foreign in (
                {"origin": "https://example.org"},
                {"origin": "http://localhost:1"},
                {"origin": f"{own}.example.org"},
                {"origin": "null"},
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
                {"sec-fetch-site": "cross-site", "origin": own},
            ):
                refused = await here.client.post(path, json=ASKED, headers=foreign)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
        # Before such a page sends JSON, its browser asks whether it may: it is not told that it does.
        asking = {"origin": "https://example.org", "access-control-request-method": "POST"}
        asked = await here.client.options("/v1/translate", headers=asking)
        assert asked.status_code == 403
        assert not [name for name in asked.headers if name.startswith("access-control")]
        assert here.engine.submitted.qsize() == 3


async def test_what_a_form_could_send_is_not_read() -> None:
    async with web() as here:
        body = json.dumps(ASKED)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            refused = await here.client.post("/v1/translate", content=body, headers={"content-type": kind})
            assert refused.status_code == 415, kind
        kind = "Application/JSON; charset=utf-8"
        taken = await here.client.post("/v1/translate", content=body, headers={"content-type": kind})
        assert taken.status_code == 200


async def test_on_a_loopback_address_no_other_name_is_answered() -> None:
    async with web() as here:
        port = here.http.rpartition(":")[2]
        for name in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "127.1.2.3", f"[::1]:{port}"):
            assert (await here.client.get("/healthz", headers={"host": name})).status_code == 200
        for name in (f"example.org:{port}", "localhost.example.org", "127.0.0.1.example.org", "10.0.0.1", "[::2]", "["):
            for path in ("/healthz", "/metrics", "/v1/models", "/openapi.json"):
                refused = await here.client.get(path, headers={"host": name})
                assert refused.status_code == 421, name
        twice = await said(here, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: example.org\r\n\r\n")
        assert b" 400 " in twice.split(b"\r\n")[0]
    async with web(host="0.0.0.0", insecure=True) as here:
        port = here.http.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/healthz"
        assert (await here.client.get(url, headers={"host": "example.org"})).status_code == 200


def test_the_http_port_is_public_on_the_same_terms() -> None:
    with pytest.raises(SettingsError, match="tls_certificate"):
        DragomanServer(Settings(host="0.0.0.0", http_port=0, port=0))


async def test_a_body_is_bounded_however_it_comes() -> None:
    async with web(max_message_bytes=2000, limits=HttpLimits(idle_seconds=1)) as here:
        large = ASKED | {"text": "x" * 3000}
        refused = await here.post("/v1/translate", large)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "RESOURCE_EXHAUSTED")
        assert "2000 bytes" in refused.json()["error"]["message"]
        declared = await said(here, head("/v1/translate", "content-length: 999999999999"))
        assert b" 413 " in declared.split(b"\r\n")[0]
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        pieces = await said(here, head("/v1/translate", "transfer-encoding: chunked") + chunk)
        assert b" 413 " in pieces.split(b"\r\n")[0]
        # Nobody goes on for ever with a body that is not read.
        assert b" 413 " in await dripping(here, head("/v1/translate", "content-length: 99999"))
        assert (await here.post("/v1/translate", ASKED)).status_code == 200


async def test_headers_are_bounded() -> None:
    async with web() as here:
        for lines in ([f"x-much: {'a' * 20_000}"], [f"x-{number}: {'a' * 100}" for number in range(200)]):
            large = await said(here, head("/v1/translate", "connection: close", *lines))
            assert b" 431 " in large.split(b"\r\n")[0]
        endless = await said(here, head("/v1/translate", f"x-much: {'a' * 20_000}")[:-2])  # it has not ended yet
        assert b" 400 " in endless.split(b"\r\n")[0]


async def test_what_is_nested_deeply_is_refused() -> None:
    async with web() as here:
        for body in ("[" * 100_000, '{"a":' * 100_000, '{"text":' + "[" * 40 + "]" * 40 + "}"):
            kind = {"content-type": "application/json"}
            refused = await here.client.post("/v1/translate", content=body, headers=kind)
            assert refused.status_code == 400
            assert "16 levels" in refused.json()["error"]["message"]


async def test_who_sends_slowly_is_not_waited_for() -> None:
    limits = HttpLimits(head_seconds=0.3, body_seconds=0.3, idle_seconds=1)
    async with web(limits=limits) as here:
        assert await said(here, b"") == b""
        assert await said(here, b"POST /v1/translate HTTP/1.1\r\nhost: localhost\r\n") == b""
        # Each piece in time, and yet the whole is not.
        assert await said(here, b"GET /healthz HTTP/1.1\r\n", then=b"host: localhost\r\n", pause=0.2) == b""
        slow = await said(here, head("/v1/translate", "content-length: 100") + b"{")
        assert b" 408 " in slow.split(b"\r\n")[0]
        assert b"DEADLINE_EXCEEDED" in slow
        # A further request of one connection is awaited no longer than the first.
        first = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answered = await said(here, first, then=b"GET /healthz HT", pause=0.1)
        assert answered.count(b"HTTP/1.1 200") == 1
        assert (await here.post("/v1/translate", ASKED)).status_code == 200


async def test_no_more_connections_than_there_may_be() -> None:
    async with web(limits=HttpLimits(connections=2)) as here:
        host, _, port = here.http.rpartition(":")
        _, held = await asyncio.open_connection(host, int(port))
        refused = await said(here, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b" 503 " in refused.split(b"\r\n")[0]
        held.close()
        await held.wait_closed()
        async with asyncio.timeout(SECONDS):
            while (await here.client.get("/healthz")).status_code != 200:
                await asyncio.sleep(0.01)
