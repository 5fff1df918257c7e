"""OpenTelemetry traces: a span for each call, and in it those of the queue, of encoding and of decoding.

Loaded only where ``--otlp-endpoint`` is given.
"""

from __future__ import annotations

import time

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dragoman_server.telemetry.calls import Call

_FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"}
"""What OpenTelemetry counts as an error on the server's side."""


class Tracing:
    """Makes the spans of a call when it has ended, by its receipt's times, under the caller's trace."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "dragoman"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("dragoman_server")
        self._propagator = TraceContextTextMapPropagator()

    def ended(self, call: Call, code: str) -> None:
        """The call has just ended so."""
        now, epoch = time.monotonic(), time.time_ns()

        def nanoseconds(moment: float) -> int:
            return epoch - int((now - moment) * 1e9)

        parent = self._propagator.extract(call.metadata)
        span = self._tracer.start_span(
            call.rpc,
            parent,
            SpanKind.SERVER,
            {**_protocol(call), "dragoman.request_id": call.request_id},
            start_time=nanoseconds(call.began),
        )
        span.set_attribute("dragoman.model", call.model)
        span.set_attribute("dragoman.source_tokens", call.source_tokens)
        span.set_attribute("dragoman.target_tokens", call.target_tokens)
        span.set_attribute("rpc.response.status_code", code)
        if code in _FAULTS:
            span.set_status(Status(StatusCode.ERROR))
        begin = call.queued
        for name, seconds in call.phases:
            child = self._tracer.start_span(name, set_span_in_context(span), start_time=nanoseconds(begin))
            begin += seconds
            child.end(nanoseconds(begin))
        span.end(epoch)

    def stop(self) -> None:
        """Send the rest and end; blocks for some seconds at most."""
        self._provider.shutdown()


def _protocol(call: Call) -> dict[str, str]:
    """What OpenTelemetry calls the method."""
    if not call.http:
        return {"rpc.system": "grpc", "rpc.method": call.rpc}
    method, _, route = call.rpc.partition(" ")
    return {"http.request.method": method, "http.route": route}


def otlp(endpoint: str) -> Tracing:
    """Traces that go to a collector over gRPC: ``endpoint`` is http://HOST:PORT, or https."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  (here alone)

    return Tracing(OTLPSpanExporter(endpoint=endpoint))
