"""Structured logs on stderr, escaped, and without the texts or tokens of any request.

Other libraries' records (gRPC's) go through the same renderer from warnings upwards.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog

from dragoman_server.settings import LogFormat, LogLevel
from dragoman_server.telemetry.calls import CALL


def configure(level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send this process's logs to ``stream`` (stderr). May be called again: the last call counts."""
    output = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    if form == "auto":
        form = "console" if output.isatty() else "json"
    # repr_native_str and JSON both escape line breaks and control characters: nobody forges a line through a value.
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=output.isatty(), repr_native_str=True)
    )
    shared: list[structlog.typing.Processor] = [
        _request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Errors(with_messages=threshold <= logging.DEBUG),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def _request_id(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Says in which call it was, if in one."""
    if (call := CALL.get()) is not None:
        event.setdefault("request_id", call.request_id)
    return event


class _Errors:
    """Puts an exception's type and frames in the place of ``exc_info``.

    Its message may quote what a user sent, so that it is logged at level debug alone.
    """

    def __init__(self, *, with_messages: bool) -> None:
        self._with_messages = with_messages

    def __call__(
        self, logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        info = event.pop("exc_info", None)
        error = info[1] if isinstance(info, tuple) else sys.exception() if info is True else info
        if isinstance(error, BaseException):
            event["error"] = type(error).__qualname__
            event["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
            if self._with_messages:
                event["message"] = str(error)
        return event
