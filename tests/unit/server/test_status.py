from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import grpc
import pytest
import structlog

from dragoman_protos.v1 import inference_pb2
from dragoman_server import errors, logs
from dragoman_server.service.status import status_of
from dragoman_server.settings import LogLevel


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_invalid_argument_lists_every_violation() -> None:
    violations = [errors.Violation("text", "empty", "something"), errors.Violation("model", "'X'", "lower case")]
    status = status_of(errors.InvalidArgument(violations))
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.details == "text = empty: something; model = 'X': lower case"
    ((key, value),) = status.trailing_metadata
    assert key == "dragoman-error-bin"
    assert isinstance(value, bytes)
    sent = inference_pb2.ErrorDetails.FromString(value).violations
    assert [(v.field, v.value, v.limit) for v in sent] == [(v.field, v.value, v.limit) for v in violations]


def test_not_found() -> None:
    assert status_of(errors.NotFound("no model 'x'")).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.0201, "21"), (0.0, "0"), (-1.0, "0"), (30.0, "30000")])
def test_overloaded(seconds: float, milliseconds: str) -> None:
    status = status_of(errors.Overloaded("the queue is full", seconds))
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.trailing_metadata == (("grpc-retry-pushback-ms", milliseconds),)


def test_what_is_too_large_is_not_tried_again() -> None:
    status = status_of(errors.TooLarge("too large"))
    assert (status.code, status.trailing_metadata) == (grpc.StatusCode.RESOURCE_EXHAUSTED, ())


def test_deadline_exceeded() -> None:
    assert status_of(errors.DeadlineExceeded()).code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancelled() -> None:
    assert status_of(errors.Cancelled()).code is grpc.StatusCode.CANCELLED


def test_unavailable() -> None:
    assert status_of(errors.Unavailable()).code is grpc.StatusCode.UNAVAILABLE


def test_internal_tells_the_incident() -> None:
    status = status_of(errors.Internal("abc"))
    assert status.code is grpc.StatusCode.INTERNAL
    ((_, value),) = status.trailing_metadata
    assert isinstance(value, bytes)
    assert inference_pb2.ErrorDetails.FromString(value).incident == "abc"


def raised(error: Exception) -> Exception:
    """The error with the traceback of having been raised."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize(("level", "quoted"), [("info", False), ("debug", True)])
def test_anything_else_is_internal_and_logged_under_its_incident(level: LogLevel, quoted: bool) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    status = status_of(raised(KeyError("a user's text\nwith a line break")))
    assert status.code is grpc.StatusCode.INTERNAL
    assert "text" not in status.details
    ((_, value),) = status.trailing_metadata
    assert isinstance(value, bytes)
    incident = inference_pb2.ErrorDetails.FromString(value).incident
    (line,) = stream.getvalue().splitlines()  # escaped: one record stays one line
    record = json.loads(line)
    assert record["incident"] == incident
    assert record["error"] == "KeyError"
    assert __file__ in record["frames"][0]
    assert ("a user's text" in line) is quoted


def test_console_logs_escape_too() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    status_of(errors.NotFound("x"))
    structlog.get_logger().info("an event", value="two\nlines")
    assert len(stream.getvalue().splitlines()) == 1
