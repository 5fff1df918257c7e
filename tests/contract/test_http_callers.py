"""Callers of the HTTP port: who they are, what they may, and what is noted of their calls."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dragoman_server import logs
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.telemetry.tracing import Tracing
from tests.contract.web import SECONDS, error_of, web

ASKED = {"text": "guten tag", "target_language": "en"}
INFER, METRICS, SCARCE = new_token(), new_token(), new_token()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        f'[[tokens]]\nname = "web"\nsha256 = "{digest(INFER)}"\n'
        f'[[tokens]]\nname = "scraper"\nsha256 = "{digest(METRICS)}"\npermissions = ["metrics"]\n'
        f'[[tokens]]\nname = "scarce"\nsha256 = "{digest(SCARCE)}"\nrequests_per_minute = 2\n'
    )
    return path


async def test_who_may_call(tokens: Path) -> None:
    async with web(tokens=tokens) as here:
        for path in ("/v1/translate", "/v1/generate", "/v1/completions", "/v1/embeddings"):
            nobody = await here.post(path, ASKED)
            assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
            other = await here.post(path, ASKED, authorization=f"Bearer {METRICS}")
            assert other.status_code == 403
        for path in ("/v1/models", "/v1/models/toy"):
            assert (await here.client.get(path)).status_code == 401
            known = await here.client.get(path, headers={"authorization": f"Bearer {INFER}"})
            assert known.status_code == 200
        assert (await here.post("/v1/translate", ASKED, authorization=f"Bearer {INFER}")).status_code == 200
        assert (await here.client.get("/openapi.json")).status_code == 200
        used = [await here.post("/v1/translate", ASKED, authorization=f"Bearer {SCARCE}") for _ in range(3)]
        assert [response.status_code for response in used] == [200, 200, 429]
        assert int(used[-1].headers["retry-after"]) in range(1, 31)
        # Each choice is a request of its own.
        many = {"model": "toy", "prompt": ["hello", "hello"], "n": 16, "max_tokens": 1}
        refused = await here.post("/v1/completions", many, authorization=f"Bearer {SCARCE}")
        assert refused.status_code == 429
        assert error_of(refused)["type"] == "rate_limit_error"


OPEN = {"/healthz", "/readyz", "/openapi.json"}


async def test_every_path_is_closed_to_strangers_but_probes_and_what_says_nothing_of_the_server(tokens: Path) -> None:
    async with web(tokens=tokens) as here:
        paths = here.server.http_paths
        assert paths.keys() >= {*OPEN, "/", "/metrics", "/v1/translate", "/v1/models", "/v1/models/{name}"}
        for path, method in paths.items():
            page = path == "/" or path.startswith("/playground/")  # files, the same for everybody
            for given in ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {INFER}"}):
                answer = await here.client.request(
                    method, path.format(name="toy"), json=ASKED if method == "POST" else None, headers=given
                )
                assert answer.status_code == (200 if page or path in OPEN else 401), (path, given)
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert not any(name.startswith("access-control") for name in answer.headers)


async def test_nobody_is_read_before_they_are_known(tokens: Path) -> None:
    async with web(tokens=tokens) as here:
        host, _, port = here.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/translate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        head = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
        assert b" 401 " in head


async def test_a_request_that_follows_closely_is_nobody_elses(tokens: Path) -> None:
    written = io.StringIO()
    logs.configure("debug", "json", written)
    async with web(tokens=tokens) as here:
        host, _, port = here.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        asked = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
        # Both are there before the first is answered.
        writer.write(f"{asked}authorization: Bearer {INFER}\r\n\r\n{asked}connection: close\r\n\r\n".encode())
        answers = (await asyncio.wait_for(reader.read(), SECONDS)).decode()
        writer.close()
        assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["200", "401"]
    calls = [line for line in map(json.loads, written.getvalue().splitlines()) if line["event"] == "call"]
    assert {(line["code"], line["caller"]) for line in calls} == {("OK", "web"), ("UNAUTHENTICATED", "anonymous")}
    assert calls[0]["request_id"] != calls[1]["request_id"]


async def test_calls_are_counted_logged_and_traced_under_their_ids(tokens: Path) -> None:
    written, exporter = io.StringIO(), InMemorySpanExporter()
    logs.configure("debug", "json", written)
    async with web(tokens=tokens, tracing=Tracing(exporter)) as here:
        known = {"authorization": f"Bearer {INFER}", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        response = await here.client.post("/v1/translate", json=ASKED, headers={**known, "x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        bad = await here.client.post("/v1/translate", json={"text": "xyzzy", "foo": 1}, headers=known)
        assert len(bad.headers["x-request-id"]) == 32
        await here.client.post("/v1/generate", json={"prompt": "hello", "model": "toy"}, headers=known)
        counted = (await here.client.get("/metrics", headers={"authorization": f"Bearer {METRICS}"})).text
        for rpc, code in (("translate", "OK"), ("translate", "INVALID_ARGUMENT"), ("generate", "OK")):
            labels = {f'rpc="POST /v1/{rpc}"', f'code="{code}"'}
            assert any(
                line.startswith("dragoman_rpcs_total{") and all(label in line for label in labels) and " 1.0" in line
                for line in counted.splitlines()
            ), (rpc, code)
        assert 'dragoman_rpcs_in_flight{rpc="POST /v1/translate"} 0.0' in counted
    text = written.getvalue()
    assert "xyzzy" not in text
    assert INFER not in text
    calls = [line for line in map(json.loads, text.splitlines()) if line["event"] == "call"]
    assert [(line["rpc"], line["code"], line["caller"], line["model"]) for line in calls] == [
        ("POST /v1/translate", "OK", "web", "deu-eng"),
        ("POST /v1/translate", "INVALID_ARGUMENT", "web", ""),
        ("POST /v1/generate", "OK", "web", "toy"),
    ]
    assert calls[0]["request_id"] == "mine-1"
    assert calls[0]["source_tokens"] > 0
    first = next(span for span in exporter.get_finished_spans() if span.name == "POST /v1/translate")
    assert first.attributes is not None
    assert first.attributes["http.route"] == "/v1/translate"
    assert first.context is not None
    assert f"{first.context.trace_id:032x}" == "a" * 32
