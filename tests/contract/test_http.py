"""The HTTP port beside the gRPC port: who may read metrics, what stands there, and what stands in no log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server import logs
from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import Overloaded
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.web.headers import SAFE_HEADERS
from tests.contract.conftest import FakeEngine, model

INFER, METRICS = new_token(), new_token()
SECRET = "xyzzyplugh"
REQUEST = inference_pb2.TranslateRequest(text=SECRET, target_language="de")


@dataclass
class Served:
    address: str
    http: str
    engine: FakeEngine


@contextlib.asynccontextmanager
async def served(*, opened: bool = True, **settings: Any) -> AsyncIterator[Served]:
    engine = FakeEngine()
    server = DragomanServer(Settings(port=0, http_port=0, **settings))
    address = await server.start()
    try:
        if opened:
            await server.open(Catalogue([model(engine)], "deu-eng"))
        assert server.http_address
        yield Served(address, server.http_address, engine)
    finally:
        await server.drain(0)


async def get(
    address: str, path: str, *, token: str | None = None, tls: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    host, _, port = address.rpartition(":")
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=name)
    lines = [f"GET {path} HTTP/1.1", "host: localhost", "connection: close"]
    lines += [f"authorization: Bearer {token}"] if token else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *rest = head.split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        f'[[tokens]]\nname = "web"\nsha256 = "{digest(INFER)}"\n'
        f'[[tokens]]\nname = "scraper"\nsha256 = "{digest(METRICS)}"\npermissions = ["metrics"]\n'
    )
    return path


async def test_metrics_appear_after_traffic() -> None:
    async with served() as here, grpc.aio.insecure_channel(here.address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)

        def full(request: object) -> None:
            raise Overloaded("the queue is full", 0.5, "queue_full")

        await stub.Translate(REQUEST)
        message = inference_pb2.TranslateManyRequest(items=[inference_pb2.TranslateItem(id=1, request=REQUEST)])
        async for _ in stub.TranslateMany(iter([message])):
            pass
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Translate(inference_pb2.TranslateRequest(text=SECRET, target_language="qq"))
        here.engine.behave = full
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Translate(REQUEST)
        unknown: Any = channel
        for name in ("/a.B/C", "/a.B/D"):
            with pytest.raises(grpc.aio.AioRpcError):
                await unknown.unary_unary(name)(b"")
        status, headers, body = await get(here.http, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain")
        lines = body.splitlines()
        for line in (
            'dragoman_rpcs_total{code="OK",rpc="Translate"} 1.0',
            'dragoman_rpcs_total{code="INVALID_ARGUMENT",rpc="Translate"} 1.0',
            'dragoman_rpcs_total{code="RESOURCE_EXHAUSTED",rpc="Translate"} 1.0',
            'dragoman_rpcs_refused_total{reason="queue_full"} 1.0',
            'dragoman_bulk_items_total{code="OK"} 1.0',
            'dragoman_rpcs_in_flight{rpc="Translate"} 0.0',
            "dragoman_ready 1.0",
            'dragoman_model_info{model="deu-eng",precision="int8",provider="CPUExecutionProvider",version="7"} 1.0',
        ):
            assert any(sorted_labels(found) == line for found in lines), line
        assert "a.B" not in body
        assert SECRET not in body
        assert "process_resident_memory_bytes" in body


def sorted_labels(line: str) -> str:
    name, brace, rest = line.partition("{")
    labels, _, value = rest.rpartition("} ")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}} {value}" if brace else line


async def test_who_may_read_metrics(tokens: Path) -> None:
    async with served(tokens=tokens) as here:
        assert (await get(here.http, "/metrics"))[0] == 401
        assert (await get(here.http, "/metrics"))[1]["www-authenticate"] == "bearer"
        assert (await get(here.http, "/metrics", token="nobody"))[0] == 401
        assert (await get(here.http, "/metrics", token=INFER))[0] == 403
        assert (await get(here.http, "/metrics", token=METRICS))[0] == 200
        for path in ("/healthz", "/readyz"):
            assert (await get(here.http, path))[0] == 200
        async with grpc.aio.insecure_channel(here.address) as channel:
            stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="needs the permission infer"):
                await stub.Translate(REQUEST, metadata=(("authorization", f"Bearer {METRICS}"),))


async def test_ready_only_while_the_gate_is_open() -> None:
    async with served(opened=False) as here:
        assert (await get(here.http, "/healthz"))[0] == 200
        assert (await get(here.http, "/readyz"))[0] == 503
        assert "dragoman_ready 0.0" in (await get(here.http, "/metrics"))[2]


async def test_every_answer_has_safe_headers() -> None:
    async with served() as here:
        for path in ("/metrics", "/healthz", "/nothing", "/docs"):
            _, headers, _ = await get(here.http, path)
            assert {name: headers.get(name) for name in SAFE_HEADERS} == SAFE_HEADERS
            assert not any(name.startswith("access-control") for name in headers)
            assert "server" not in headers


async def test_tls_is_that_of_the_grpc_port_and_may_be_replaced(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

    def write(authority: trustme.CA) -> None:
        leaf = authority.issue_cert("localhost")
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())

    def trusting(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    write(first)
    async with served(tls_certificate=certificate, tls_key=key) as here:
        assert (await get(here.http, "/healthz", tls=trusting(first)))[0] == 200
        with pytest.raises(ssl.SSLError):
            await get(here.http, "/healthz", tls=trusting(second))
        write(second)
        assert (await get(here.http, "/healthz", tls=trusting(second)))[0] == 200


async def test_a_port_that_is_taken_is_told() -> None:
    async with served() as here:
        server = DragomanServer(Settings(port=0, http_port=int(here.http.rpartition(":")[2])))
        with pytest.raises(SettingsError, match="host and http_port"):
            await server.start()
        await server.drain(0)


async def test_every_call_has_an_id_and_no_log_holds_a_prompt(tokens: Path) -> None:
    written = io.StringIO()
    logs.configure("debug", "json", written)
    async with served(tokens=tokens) as here, grpc.aio.insecure_channel(here.address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        named = (("authorization", f"Bearer {INFER}"), ("x-request-id", "mine-1"))
        call = stub.Translate(REQUEST, metadata=named)
        await call
        assert dict(iter(await call.trailing_metadata()))["dragoman-request-id"] == "mine-1"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Translate(REQUEST, metadata=(("x-request-id", "bad id"),))
        made: Any = refused.value.trailing_metadata()
        assert len(dict(made)["dragoman-request-id"]) == 32
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Translate(inference_pb2.TranslateRequest(text=SECRET, target_language="qq"), metadata=named)
        async for _ in stub.StreamTranslate(REQUEST, metadata=named):
            pass

        def broken(request: object) -> None:
            raise ValueError("a fault of ours")

        here.engine.behave = broken
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Translate(REQUEST, metadata=named)
    text = written.getvalue()
    for hidden in (SECRET, SECRET.upper(), INFER, METRICS):
        assert hidden not in text
    calls = [line for line in map(json.loads, text.splitlines()) if line["event"] == "call"]
    assert [(line["rpc"], line["code"], line["caller"], line["level"]) for line in calls] == [
        ("Translate", "OK", "web", "debug"),
        ("Translate", "UNAUTHENTICATED", "anonymous", "info"),
        ("Translate", "INVALID_ARGUMENT", "web", "info"),
        ("StreamTranslate", "OK", "web", "debug"),
        ("Translate", "INTERNAL", "web", "info"),
    ]
    assert calls[0]["request_id"] == "mine-1"
    assert (calls[0]["model"], calls[0]["source_tokens"] > 0, calls[0]["target_tokens"] > 0) == ("deu-eng", True, True)
    fault = next(line for line in map(json.loads, text.splitlines()) if line["event"] == "unexpected error")
    assert fault["request_id"] == "mine-1"
