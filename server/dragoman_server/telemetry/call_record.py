"""What is noted of a call when it begins and ends, over gRPC and over HTTP: numbers, a span, a line in the log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import structlog

from dragoman_server.security.principal import CALLER
from dragoman_server.telemetry.calls import Call
from dragoman_server.telemetry.rpc_meter import RpcMeter

if TYPE_CHECKING:
    from dragoman_server.telemetry.tracing import Tracing  # an extra: not loaded where there are no traces

TRACE_KEYS = ("traceparent", "tracestate")
"""Of the metadata or headers that say to which trace a call belongs."""
_OK = "OK"

_WITHOUT_DEBUG = {
    structlog.make_filtering_bound_logger(level)
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
}
"""Kinds of loggers that write nothing at level debug."""

_log = structlog.get_logger(__name__)


class CallRecord:
    """Belongs to the event loop's thread.

    Calls that end with OK, and watchers of the health that leave, are logged at level debug, all others at info.
    """

    def __init__(self, meter: RpcMeter, tracing: Tracing | None = None) -> None:
        self._meter = meter
        self._tracing = tracing

    @property
    def traces(self) -> bool:
        """Whether calls become spans."""
        return self._tracing is not None

    def begins(self, call: Call) -> None:
        """A call has arrived."""
        self._meter.begins(call)

    def ends(self, call: Call, code: str) -> None:
        """It has just ended with this status of gRPC, by its name."""
        seconds = time.monotonic() - call.began
        self._meter.ends(call, code, seconds)
        if self._tracing is not None:
            self._tracing.ended(call, code)
        # A watcher of the health leaves sooner or later: nothing has failed.
        usual = code == _OK or (call.rpc, code) == ("Watch", "CANCELLED")
        if usual and structlog.get_config()["wrapper_class"] in _WITHOUT_DEBUG:
            return  # as nearly every call: gathering what nobody sees would cost more than all of the above
        write = _log.debug if usual else _log.info
        write(
            "call",
            rpc=call.rpc,
            code=code,
            model=call.model,
            version=call.version,
            ms=round(seconds * 1e3, 3),
            source_tokens=call.source_tokens,
            target_tokens=call.target_tokens,
            caller=CALLER.get().name,
        )
