"""Spans of calls, through OpenTelemetry's own exporter in memory."""

from __future__ import annotations

import subprocess
import sys
import time

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.request import Completion, Receipt, Request
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from dragoman_server.telemetry.tracing import Tracing
from tests.contract.conftest import FakeEngine, answer, echo, model

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def waited(request: Request) -> Completion:
    """As if it had waited for 2 and been encoded for 1 ms; decoding is what came after."""
    time.sleep(0.005)
    receipt = Receipt(queue_ms=2.0, encode_ms=1.0, steps=4, batch_mean=1.0, lane=0, arrived=request.arrived)
    return Completion(echo(request).answers, receipt)


async def test_a_call_is_a_span_with_its_phases_inside() -> None:
    exporter, engine = InMemorySpanExporter(), FakeEngine()
    engine.behave = answer(waited)
    server = DragomanServer(Settings(port=0), tracing=Tracing(exporter))
    address = await server.start()
    await server.open(Catalogue([model(engine)], "deu-eng"))
    async with grpc.aio.insecure_channel(address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-request-id", "mine"))
        await stub.Translate(inference_pb2.TranslateRequest(text="abc", target_language="de"), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Translate(inference_pb2.TranslateRequest(text="abc", target_language="qq"))
    await server.drain(0)  # sends what is left
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["queue", "encode", "decode", "Translate", "Translate"]
    queue, encode, decode, call, failed = spans
    assert call.context is not None
    assert call.parent is not None
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, SPAN)
    assert call.attributes is not None
    assert call.attributes["dragoman.request_id"] == "mine"
    assert call.attributes["rpc.response.status_code"] == "OK"
    for span in (queue, encode, decode):
        assert span.parent is not None
        assert span.parent.span_id == call.context.span_id
    times = [moment for span in (queue, encode, decode) for moment in (span.start_time, span.end_time)]
    assert all(moment is not None for moment in times)
    begin, *inside, end = [call.start_time or 0, *(moment or 0 for moment in times), call.end_time or 0]
    slack = 1_000_000  # of two clocks
    assert all(begin - slack <= moment <= end + slack for moment in inside)
    assert abs(inside[1] - inside[0] - 2_000_000) < slack
    assert failed.parent is None
    assert failed.attributes is not None
    assert failed.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"


def test_without_an_endpoint_opentelemetry_is_not_loaded() -> None:
    code = (
        "import asyncio, sys\nfrom dragoman_server.server import DragomanServer\n"
        "from dragoman_server.settings import Settings\n"
        "async def made(): DragomanServer(Settings(port=0))\nasyncio.run(made())\n"
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus_client', 'uvicorn'))]"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
