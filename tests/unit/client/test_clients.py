"""Both clients against a real server: the same calls, the same answers, the same errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

import dragoman
from dragoman_protos.v1 import inference_pb2, models_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.client.conftest import FakeServer, Invoke


def test_translate(fake: FakeServer, invoke: Invoke) -> None:
    t = invoke(fake.address, "translate", "abc", target="de", source="en", model="deu-eng", max_length=9)
    assert t == dragoman.Translation(
        hypotheses=(
            dragoman.Hypothesis("cba", ("c", "b", "a"), -0.5, (-0.25, -0.25), dragoman.FinishReason.STOP, -0.125),
        ),
        usage=dragoman.Usage(5, 4),
        receipt=dragoman.Receipt(queue_ms=1.5, steps=7, lane=0),
        model="deu-eng",
        model_version="1",
    )
    (request,) = fake.requests
    assert (request.target_language, request.source_language, request.model) == ("de", "en", "deu-eng")
    assert request.options.max_length == 9


def test_models(fake: FakeServer, invoke: Invoke) -> None:
    fake.served = models_pb2.ListModelsResponse(models=[models_pb2.Model(name="a"), models_pb2.Model(name="b")])
    fake.bundles.model.name = "deu-eng"
    fake.bundles.bundle.limits.source_tokens = 128
    assert [m.name for m in invoke(fake.address, "models")] == ["a", "b"]
    for arguments in ((), ("deu-eng",)):
        details = invoke(fake.address, "model", *arguments)
        assert (details.name, details.bundle.limits.source_tokens) == ("deu-eng", 128)
    with pytest.raises(dragoman.NotFound, match="'other'"):
        invoke(fake.address, "model", "other")


def abort(
    code: grpc.StatusCode, *trailing: tuple[str, str | bytes], times: int = 10**9
) -> Callable[[inference_pb2.TranslateRequest, Any], inference_pb2.TranslateResponse]:
    """An answer that fails so many times, and is "ok" afterwards."""
    left = [times]

    def answer(_: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if left[0] > 0:
            left[0] -= 1
            context.set_trailing_metadata(trailing)
            context.abort(code, "as told")
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text="ok")])

    return answer


def test_violations_arrive(fake: FakeServer, invoke: Invoke) -> None:
    details = inference_pb2.ErrorDetails(violations=[inference_pb2.Violation(field="text", value="''", limit="1 up")])
    fake.answer = abort(grpc.StatusCode.INVALID_ARGUMENT, ("dragoman-error-bin", details.SerializeToString()))
    with pytest.raises(dragoman.InvalidArgument) as caught:
        invoke(fake.address, "translate", "", target="de")
    assert caught.value.violations == (dragoman.Violation("text", "''", "1 up"),)
    assert len(fake.requests) == 1


def test_unavailable_is_tried_again(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.UNAVAILABLE, times=4)
    assert invoke(fake.address, "translate", "a", target="de").text == "ok"
    assert len(fake.requests) == 5


def test_five_attempts_and_no_more(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(dragoman.Unavailable, match="as told"):
        invoke(fake.address, "translate", "a", target="de")
    assert len(fake.requests) == 5


def test_overload_with_pushback_is_tried_again(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-retry-pushback-ms", "1"), times=2)
    assert invoke(fake.address, "translate", "a", target="de").text == "ok"
    assert len(fake.requests) == 3


def test_overload_without_pushback_is_not(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(dragoman.Overloaded) as caught:
        invoke(fake.address, "translate", "a", target="de")
    assert caught.value.retry_after is None
    assert len(fake.requests) == 1


def test_a_pushback_beyond_the_deadline_ends_the_call(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-retry-pushback-ms", "60000"))
    with pytest.raises(dragoman.Overloaded) as caught:
        invoke(fake.address, "translate", "a", target="de", timeout=30.0)
    assert caught.value.retry_after == 60.0


def test_the_deadline_reaches_the_server_and_ends_the_call(fake: FakeServer, invoke: Invoke) -> None:
    seen: list[float] = []

    def wait(_: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        seen.append(context.time_remaining())
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(30.0)
        return inference_pb2.TranslateResponse()

    fake.answer = wait
    with pytest.raises(dragoman.DeadlineExceeded):
        invoke(fake.address, "translate", "a", target="de", timeout=0.2)
    assert 0 < seen[0] <= 0.202  # rounded up to milliseconds, there and here


def test_nobody_there(invoke: Invoke, fake: FakeServer) -> None:
    fake.stop()
    with pytest.raises(dragoman.Unavailable, match=str(fake.port)):
        invoke(fake.address, "translate", "a", target="de")


def test_many_answers_keep_their_order_within_the_window(fake: FakeServer, invoke: Invoke) -> None:
    # Pairs finish in reverse: the first of each waits until the second is there.
    arrived = {str(i): threading.Event() for i in range(101)}

    def pairwise(request: inference_pb2.TranslateRequest, _: Any) -> inference_pb2.TranslateResponse:
        number = int(request.text)
        arrived[request.text].set()
        if number % 2 == 0:
            arrived[str(number + 1)].wait(30.0)
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=request.text)])

    fake.answer = pairwise
    texts = [str(i) for i in range(100)]
    answers = invoke(fake.address, "translate_many", iter(texts), target="de", concurrency=4)
    assert [t.text for t in answers] == texts
    assert 2 <= fake.peak <= 4


def test_many_of_nothing(fake: FakeServer, invoke: Invoke) -> None:
    assert invoke(fake.address, "translate_many", [], target="de") == []


def test_the_first_error_ends_the_iteration(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = abort(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(dragoman.InvalidArgument):
        invoke(fake.address, "translate_many", ["a"] * 50, target="de", concurrency=2)
    assert len(fake.requests) < 50


def test_an_error_of_the_source_comes_through(fake: FakeServer, invoke: Invoke) -> None:
    def texts() -> Any:
        yield "a"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        invoke(fake.address, "translate_many", texts(), target="de")


def test_a_token_travels_as_bearer(fake: FakeServer, invoke: Invoke) -> None:
    invoke(fake.address, "translate", "a", target="de", options={"token": "secret"})
    assert fake.metadata[0]["authorization"] == "Bearer secret"


def test_several_servers_take_turns(fake: FakeServer, second: FakeServer) -> None:
    with dragoman.Client([fake.address, second.address]) as client:
        for _ in range(10_000):  # a connection that is not up yet gets no calls
            client.translate("a", target="de")
            if fake.requests and second.requests:
                return
    raise AssertionError("one server had all the calls")


async def test_several_servers_take_turns_async(fake: FakeServer, second: FakeServer) -> None:
    async with dragoman.AsyncClient([fake.address, second.address]) as client:
        for _ in range(10_000):
            await client.translate("a", target="de")
            if fake.requests and second.requests:
                return
    raise AssertionError("one server had all the calls")


def test_a_dead_replica_is_gone_round(fake: FakeServer, second: FakeServer, invoke: Invoke) -> None:
    second.stop()
    answers = invoke([second.address, fake.address], "translate_many", ["a"] * 16, target="de")
    assert [t.text for t in answers] == ["a"] * 16


def test_tls(secure: FakeServer, authority: trustme.CA, invoke: Invoke, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    address = f"localhost:{secure.port}"
    trusted = {"tls": dragoman.TLS(ca=tmp_path / "ca.pem"), "token": "secret"}
    assert invoke(address, "translate", "ab", target="de", options=trusted).text == "ba"
    once = dragoman.Retry(attempts=1)
    for refused in ({"tls": True, "retry": once}, {"retry": once}):  # another authority; no TLS
        with pytest.raises(dragoman.Unavailable):
            invoke(address, "translate", "ab", target="de", options=refused)
    assert len(secure.requests) == 1


def test_faulty_arguments_are_refused_by_the_constructor(invoke: Invoke) -> None:
    with pytest.raises(dragoman.InvalidArgument, match="timeout"):
        invoke("localhost:1", "models", options={"timeout": 0})
    with pytest.raises(dragoman.InvalidArgument, match="address"):
        invoke("localhost", "models")
    for concurrency in (0, 65_537, True, 2.0):
        with pytest.raises(dragoman.InvalidArgument, match=f"concurrency = {concurrency}: a whole number, 1 to 65536"):
            invoke("localhost:1", "translate_many", [], target="de", concurrency=concurrency)
