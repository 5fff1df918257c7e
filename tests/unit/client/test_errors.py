"""Every branch from a gRPC status to a typed error."""

from __future__ import annotations

import grpc
import pytest

from dragoman import errors
from dragoman.errors import DETAILS_KEY, PUSHBACK_KEY, Failure, error_from
from dragoman_protos.v1.inference_pb2 import ErrorDetails, Violation

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidArgument),
        (Code.OUT_OF_RANGE, errors.InvalidArgument),
        (Code.NOT_FOUND, errors.NotFound),
        (Code.RESOURCE_EXHAUSTED, errors.Overloaded),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Code.CANCELLED, errors.Cancelled),
        (Code.UNAUTHENTICATED, errors.Unauthenticated),
        (Code.PERMISSION_DENIED, errors.PermissionDenied),
        (Code.UNAVAILABLE, errors.Unavailable),
        (Code.INTERNAL, errors.InternalError),
        (Code.UNKNOWN, errors.InternalError),
        (Code.DATA_LOSS, errors.InternalError),
        (Code.UNIMPLEMENTED, errors.DragomanError),
        (Code.FAILED_PRECONDITION, errors.FailedPrecondition),
        (Code.ABORTED, errors.DragomanError),
        (Code.ALREADY_EXISTS, errors.DragomanError),
    ],
)
def test_each_status_has_its_error(code: grpc.StatusCode, kind: type[errors.DragomanError]) -> None:
    error = error_from(Failure(code, "why"))
    assert type(error) is kind
    assert "why" in str(error)


def test_no_status_is_forgotten() -> None:
    for code in set(Code) - {Code.OK}:
        assert isinstance(error_from(Failure(code)), errors.DragomanError)
        assert str(error_from(Failure(code))) == code.name


def test_an_undescribed_status_names_itself() -> None:
    assert str(error_from(Failure(Code.UNIMPLEMENTED, "no such method"))) == "UNIMPLEMENTED: no such method"


def test_violations_are_carried_and_told() -> None:
    details = ErrorDetails(
        violations=[
            Violation(field="text", value="''", limit="1 to 128 tokens"),
            Violation(field="options.max_length", value="900", limit="1 to 100"),
        ]
    )
    error = error_from(Failure(Code.INVALID_ARGUMENT, "bad", ((DETAILS_KEY, details.SerializeToString()),)))
    assert isinstance(error, errors.InvalidArgument)
    assert [v.field for v in error.violations] == ["text", "options.max_length"]
    assert str(error) == "text = '': 1 to 128 tokens; options.max_length = 900: 1 to 100"


@pytest.mark.parametrize(
    ("pushback", "seconds"), [("1500", 1.5), (b"20", 0.02), ("-1", None), ("soon", None), (None, None)]
)
def test_overloaded_says_when_to_come_back(pushback: str | bytes | None, seconds: float | None) -> None:
    trailing = () if pushback is None else ((PUSHBACK_KEY, pushback),)
    error = error_from(Failure(Code.RESOURCE_EXHAUSTED, "full", trailing))
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after == seconds


def test_an_internal_error_names_its_incident_once() -> None:
    trailing = ((DETAILS_KEY, ErrorDetails(incident="4f2a").SerializeToString()),)
    for message in ("internal error", "internal error, incident 4f2a"):
        error = error_from(Failure(Code.INTERNAL, message, trailing))
        assert isinstance(error, errors.InternalError)
        assert error.incident == "4f2a"
        assert str(error).count("4f2a") == 1


def test_unreadable_details_do_not_hide_the_error() -> None:
    error = error_from(Failure(Code.INVALID_ARGUMENT, "bad", ((DETAILS_KEY, b"\xff\xff"),)))
    assert isinstance(error, errors.InvalidArgument)
    assert error.violations == ()
    assert str(error) == "bad"
