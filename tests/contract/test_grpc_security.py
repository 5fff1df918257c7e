"""Tokens and TLS on real sockets: who gets in, who does not, and what each is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dragoman import TLS, AsyncClient, Unauthenticated, Unavailable
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.security.methods import METHODS, Open
from dragoman_server.security.principal import Permission
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.contract.conftest import FakeEngine, model

INFER, ADMIN, SLOW = new_token(), new_token(), new_token()
REQUEST = inference_pb2.TranslateRequest(text="abc", target_language="de")
TRANSLATE = "/dragoman.v1.InferenceService/Translate"
HEALTH = "/grpc.health.v1.Health/Check"
PROBES = {"/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"}


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{digest(token)}"\n{more}\n'
            for name, token, more in [
                ("web", INFER, ""),
                ("ops", ADMIN, 'permissions = ["admin"]'),
                ("slow", SLOW, "requests_per_minute = 30"),
            ]
        )
    )
    return path


@contextlib.asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[str]:
    server = DragomanServer(Settings(port=0, **settings))
    address = await server.start()
    await server.open(Catalogue([model(FakeEngine())], "deu-eng"))
    try:
        yield address
    finally:
        await server.drain(0)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def raw(channel: grpc.aio.Channel, method: str, metadata: Any = ()) -> tuple[grpc.StatusCode, str]:
    """Call a method with no message at all: what is refused is refused before one is read."""
    untyped: Any = channel  # without serialisers, and without messages
    call = untyped.stream_stream(method)(metadata=metadata, timeout=20)
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            break
    call_code, details = await call.code(), await call.details()
    call.cancel()
    return call_code, details or ""


async def methods_of(channel: grpc.aio.Channel) -> set[str]:
    """Every method that the server has registered, as it says itself."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask(**request: Any) -> reflection_pb2.ServerReflectionResponse:
        requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
        async for response in stub.ServerReflectionInfo(requests, metadata=bearer(INFER)):
            assert isinstance(response, reflection_pb2.ServerReflectionResponse)
            return response
        raise AssertionError("no answer")

    found = set()
    for service in (await ask(list_services="")).list_services_response.service:
        answer = await ask(file_containing_symbol=service.name)
        for blob in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(blob)
            for described in file.service:
                if f"{file.package}.{described.name}" == service.name:
                    found |= {f"/{service.name}/{method.name}" for method in described.method}
    return found


async def test_every_registered_method_is_denied_to_strangers_but_health(tokens: Path) -> None:
    async with served(tokens=tokens, reflection=True) as address, grpc.aio.insecure_channel(address) as channel:
        registered = await methods_of(channel)
        assert TRANSLATE in registered
        assert HEALTH in registered
        assert registered <= METHODS.keys()
        for method in sorted(registered):
            open_to_all = METHODS[method] is Open.OPEN
            assert open_to_all == (method.startswith("/grpc.health.v1.Health/") or method in PROBES)
            if open_to_all:
                continue
            for metadata in ((), bearer("x"), bearer(""), (("authorization", f"Basic {INFER}"),), bearer(INFER) * 2):
                assert (await raw(channel, method, metadata))[0] is grpc.StatusCode.UNAUTHENTICATED
            code, details = await raw(channel, method, bearer(ADMIN))
            why = (
                "the method is closed"
                if METHODS[method] is Permission.ADMIN
                else "the method needs the permission infer"
            )
            assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, why)


async def test_unknown_methods(tokens: Path) -> None:
    unknown = "/dragoman.v1.InferenceService/Nothing"
    async with served(tokens=tokens) as address, grpc.aio.insecure_channel(address) as channel:
        assert (await raw(channel, unknown))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert (await raw(channel, unknown, bearer(INFER)))[0] is grpc.StatusCode.UNIMPLEMENTED
    async with served() as address, grpc.aio.insecure_channel(address) as channel:
        assert (await raw(channel, unknown))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_a_token_lets_in_and_health_needs_none(tokens: Path) -> None:
    async with served(tokens=tokens) as address:
        async with AsyncClient(address, token=INFER) as client:
            assert (await client.translate("abc", target="de")).text == "ABC"
            assert [t.text async for t in client.translate_many(["ab", "c"], target="de")] == ["AB", "C"]
            assert [m.name for m in await client.models()] == ["deu-eng"]
        async with AsyncClient(address) as client:
            with pytest.raises(Unauthenticated):
                await client.translate("abc", target="de")
        async with grpc.aio.insecure_channel(address) as channel:
            check = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert check.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_quota_refuses_with_pushback_and_makes_a_bulk_stream_wait(tokens: Path) -> None:
    async with served(tokens=tokens) as address, grpc.aio.insecure_channel(address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        items = [inference_pb2.TranslateItem(id=number, request=REQUEST) for number in range(31)]
        message = inference_pb2.TranslateManyRequest(items=items)
        answered = 0
        async for response in stub.TranslateMany(iter([message]), metadata=bearer(SLOW)):
            answered += len(response.outcomes)
        assert answered == 31  # a full bucket lets in more than it holds, and is owed for
        with pytest.raises(grpc.aio.AioRpcError, match="the quota of 30 requests a minute is used up") as raised:
            await stub.Translate(REQUEST, metadata=bearer(SLOW))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing: Any = raised.value.trailing_metadata()
        told = dict(trailing)
        assert 0 < int(told["grpc-retry-pushback-ms"]) <= 60_000
        assert (await stub.Translate(REQUEST, metadata=bearer(INFER))).hypotheses[0].text == "ABC"
        waiting = stub.TranslateMany(iter([message]), metadata=bearer(SLOW), timeout=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await waiting.read()
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def written(folder: Path, issued: trustme.LeafCert, name: str = "server") -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    for path, content in [
        (certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        (key, issued.private_key_pem.bytes()),
    ]:
        beside = path.with_suffix(".new")
        beside.write_bytes(content)
        beside.replace(path)
    return certificate, key


def authority_file(folder: Path, authority: trustme.CA, name: str) -> Path:
    path = folder / f"{name}-ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def translated(address: str, tls: TLS | bool) -> str:
    port = address.rpartition(":")[2]
    async with AsyncClient(f"localhost:{port}", tls=tls, timeout=5.0) as client:
        return (await client.translate("abc", target="de")).text


async def test_tls_refuses_plaintext_wrong_authorities_and_expired_certificates(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    certificate, key = written(tmp_path, ours.issue_cert("localhost"))
    trusting = TLS(ca=authority_file(tmp_path, ours, "ours"))
    async with served(host="127.0.0.1", tls_certificate=certificate, tls_key=key) as address:
        assert await translated(address, trusting) == "ABC"
        for tls in (False, TLS(ca=authority_file(tmp_path, theirs, "theirs"))):
            with pytest.raises(Unavailable):
                await translated(address, tls)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate, key = written(tmp_path, ours.issue_cert("localhost", not_after=past))
    async with served(tls_certificate=certificate, tls_key=key) as address:
        with pytest.raises(Unavailable):
            await translated(address, trusting)


async def test_certificates_rotate_without_a_restart(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    certificate, key = written(tmp_path, old.issue_cert("localhost"))
    before, after = (TLS(ca=authority_file(tmp_path, ca, name)) for ca, name in ((old, "old"), (new, "new")))
    async with served(tls_certificate=certificate, tls_key=key) as address:
        port = address.rpartition(":")[2]
        async with AsyncClient(f"localhost:{port}", tls=before) as connected:
            assert (await connected.translate("abc", target="de")).text == "ABC"
            written(tmp_path, new.issue_cert("localhost"))
            os.utime(certificate, ns=(1, 1))
            assert await translated(address, after) == "ABC"
            with pytest.raises(Unavailable):
                await translated(address, before)
            # A connection that stands goes on.
            assert (await connected.translate("abcd", target="de")).text == "ABCD"


async def test_mutual_tls_asks_for_a_certificate_of_the_right_authority(tmp_path: Path) -> None:
    ours, clients, strangers = trustme.CA(), trustme.CA(), trustme.CA()
    certificate, key = written(tmp_path, ours.issue_cert("localhost"))
    trusted = authority_file(tmp_path, ours, "ours")
    settings = {
        "tls_certificate": certificate,
        "tls_key": key,
        "tls_client_ca": authority_file(tmp_path, clients, "clients"),
    }
    known = written(tmp_path, clients.issue_cert("client.example.org"), "known")
    unknown = written(tmp_path, strangers.issue_cert("client.example.org"), "unknown")
    async with served(**settings) as address:
        assert await translated(address, TLS(ca=trusted, certificate=known[0], key=known[1])) == "ABC"
        for tls in (TLS(ca=trusted), TLS(ca=trusted, certificate=unknown[0], key=unknown[1])):
            with pytest.raises(Unavailable):
                await translated(address, tls)


async def test_half_a_handshake_does_not_hold_anything_up(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = written(tmp_path, authority.issue_cert("localhost"))
    trusting = TLS(ca=authority_file(tmp_path, authority, "ours"))
    async with served(tls_certificate=certificate, tls_key=key) as address:
        port = int(address.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        assert await translated(address, trusting) == "ABC"
        for _, writer in silent:
            writer.close()
