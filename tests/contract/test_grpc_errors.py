from __future__ import annotations

from typing import TYPE_CHECKING, cast

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, models_pb2
from dragoman_server import errors
from dragoman_server.request import Request

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

GOOD = {"text": "hello", "target_language": "de"}


async def failure(harness: Harness, **fields: object) -> grpc.aio.AioRpcError:
    request = inference_pb2.TranslateRequest(**(GOOD | fields))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await harness.inference.Translate(request)
    return raised.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    # The stubs take the metadata for a mapping; iterated, it gives pairs.
    return dict(cast("list[tuple[str, str | bytes]]", list(error.trailing_metadata())))


def details(error: grpc.aio.AioRpcError) -> inference_pb2.ErrorDetails:
    encoded = trailers(error)["dragoman-error-bin"]
    assert isinstance(encoded, bytes)
    return inference_pb2.ErrorDetails.FromString(encoded)


async def test_faulty_options_are_named_all_at_once(serving: Harness) -> None:
    options = inference_pb2.DecodingOptions(beam_size=17, num_hypotheses=0, top_p=2, stop=[""])
    error = await failure(serving, options=options)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.field for violation in details(error).violations} == {
        "options.beam_size",
        "options.num_hypotheses",
        "options.top_p",
        "options.stop[0]",
    }


async def test_all_violations_come_at_once(serving: Harness) -> None:
    options = inference_pb2.DecodingOptions(max_length=0)
    error = await failure(serving, text="  ", target_language="fr", source_language="xx", options=options)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = details(error).violations
    assert [v.field for v in violations] == ["text", "target_language", "source_language", "options.max_length"]
    assert all(v.value and v.limit for v in violations)
    assert "one of de, en" in (error.details() or "")
    assert serving.engine.submitted.empty()


async def test_an_unknown_model_is_not_found(serving: Harness) -> None:
    error = await failure(serving, model="fra-eng")
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "fra-eng" in (error.details() or "")


@pytest.mark.parametrize("name", ["../x", "a\0b", " ", "Deu-Eng", "-x", "x" * 65])
async def test_a_malformed_model_name_is_invalid_everywhere(serving: Harness, name: str) -> None:
    error = await failure(serving, model=name)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error).violations[0].field == "model"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.models.GetModel(models_pb2.GetModelRequest(name=name))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_get_model_of_an_unknown_name_is_not_found(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.models.GetModel(models_pb2.GetModelRequest(name="fra-eng"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DeadlineExceeded("late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Cancelled("gone"), grpc.StatusCode.CANCELLED),
        (errors.Unavailable("stopping"), grpc.StatusCode.UNAVAILABLE),
        (errors.Overloaded("full", 0.25), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Internal("0123"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_what_the_engine_replies_becomes_a_status(
    serving: Harness, error: errors.ServerError, code: grpc.StatusCode
) -> None:
    def reply(request: Request) -> None:
        request.finish(error)

    serving.engine.behave = reply
    assert (await failure(serving)).code() is code


async def test_overload_tells_when_to_come_back(serving: Harness) -> None:
    def refuse(request: Request) -> None:
        raise errors.Overloaded("the queue is full", 1.2345)

    serving.engine.behave = refuse
    error = await failure(serving)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailers(error)["grpc-retry-pushback-ms"] == "1235"


async def test_an_unexpected_error_tells_an_incident_and_nothing_else(serving: Harness) -> None:
    def burst(request: Request) -> None:
        raise RuntimeError("the text was: hello")

    serving.engine.behave = burst
    error = await failure(serving)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hello" not in (error.details() or "")
    assert "RuntimeError" not in (error.details() or "")
    assert len(details(error).incident) == 32
    assert details(error).incident in (error.details() or "")


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fshort"])
@pytest.mark.parametrize(
    "method",
    [
        "/dragoman.v1.InferenceService/Translate",
        "/dragoman.v1.ModelService/GetModel",
        "/grpc.health.v1.Health/Check",
    ],
)
async def test_bytes_that_are_no_message_are_the_callers_fault(serving: Harness, method: str, body: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.channel.unary_unary(method, None, None)(body)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Error" not in (raised.value.details() or "")
    assert details(raised.value).violations[0].field == "request"


async def test_malformed_bytes_to_a_streaming_method_too(serving: Harness) -> None:
    call = serving.channel.unary_stream("/grpc.health.v1.Health/Watch", None, None)(b"\xff\xff\xff")
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["/dragoman.v1.InferenceService/Nothing", "/nobody.Service/Translate"])
async def test_an_unknown_method_is_unimplemented(serving: Harness, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.channel.unary_unary(method, None, None)(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
