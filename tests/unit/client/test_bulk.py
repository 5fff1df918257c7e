"""translate_many over one stream: order, faults of items, streams that break, and memory."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dragoman
from dragoman import Client
from dragoman.bulk_tasks import failure_of
from dragoman.pending import Pending, prepared
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke

TEMPLATE = inference_pb2.TranslateRequest(target_language="de")


def fail_on(word: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> Any:
    """An answer that fails for one text and is the text for the others."""

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if request.text == word:
            fault = inference_pb2.Violation(field="text", value="bad", limit="good")
            details = inference_pb2.ErrorDetails(violations=[fault]).SerializeToString()
            context.set_trailing_metadata((("dragoman-error-bin", details), ("grpc-retry-pushback-ms", "1500")))
            context.abort(code, "as told")
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=request.text)])

    return answer


def test_all_travels_over_one_stream_in_few_messages(fake: FakeServer, invoke: Invoke) -> None:
    texts = [str(i) for i in range(1000)]
    answers = invoke(fake.address, "translate_many", texts, target="de", priority=3, segmentation="none")
    assert [t.text for t in answers] == [text[::-1] for text in texts]
    assert answers[0].receipt == dragoman.Receipt(queue_ms=1.5, encode_ms=0.0, steps=7, batch_mean=0.0, lane=0)
    assert fake.streams == 1
    assert sum(fake.messages) == 1000
    assert 1 < max(fake.messages) <= 32
    assert {(r.priority, r.segmentation) for r in fake.requests} == {(3, inference_pb2.SEGMENTATION_NONE)}


def test_a_fault_of_one_text_is_raised_after_the_answers_before_it(fake: FakeServer) -> None:
    fake.answer = fail_on("bad")
    with Client(fake.address) as client:
        answers = client.translate_many(["a", "bad", "c"], target="de")
        assert next(answers).text == "a"
        with pytest.raises(dragoman.InvalidArgument) as caught:
            next(answers)
    assert caught.value.violations == (dragoman.Violation("text", "bad", "good"),)


def test_faults_may_stand_in_their_places(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = fail_on("bad")
    told = dragoman.NotFound("not read")
    texts = ["a", "bad", 7, "\ud800", told, "c"]
    answers = invoke(fake.address, "translate_many", texts, target="de", return_errors=True)
    assert [str(answer) for answer in answers] == [
        "a",
        "text = bad: good",
        "text = 7: a string",
        "text = '\\ud800': text without lone surrogates",
        "not read",
        "c",
    ]
    assert answers[4] is told
    assert len(fake.requests) == 3


def test_an_item_says_when_to_come_back(fake: FakeServer, invoke: Invoke) -> None:
    fake.answer = fail_on("bad", grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(dragoman.Overloaded) as caught:
        invoke(fake.address, "translate_many", ["bad"], target="de")
    assert caught.value.retry_after == 1.5


def test_a_stream_that_breaks_is_begun_again_with_what_was_not_answered(fake: FakeServer, invoke: Invoke) -> None:
    fake.break_after = 40
    texts = [str(i) for i in range(100)]
    answers = invoke(fake.address, "translate_many", texts, target="de", concurrency=16)
    assert [t.text for t in answers] == [text[::-1] for text in texts]
    assert fake.streams == 2
    assert 100 < len(fake.requests) <= 100 + 16


def test_a_broken_stream_is_a_typed_error(fake: FakeServer, invoke: Invoke) -> None:
    fake.break_after = 0
    once = {"retry": dragoman.Retry(attempts=1)}
    with pytest.raises(dragoman.Unavailable, match="shutting down"):
        invoke(fake.address, "translate_many", ["a"], target="de", options=once)


def test_the_timeout_is_for_the_wait_for_any_answer(fake: FakeServer, invoke: Invoke) -> None:
    over = threading.Event()

    def slow(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if request.text == "stuck":
            over.wait(30)
        time.sleep(0.05)
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=request.text)])

    fake.answer = slow
    texts = ["a"] * 20
    assert len(invoke(fake.address, "translate_many", texts, target="de", concurrency=1, timeout=0.8)) == 20
    with pytest.raises(dragoman.DeadlineExceeded, match=r"within 0\.2 s"):
        invoke(fake.address, "translate_many", ["stuck"], target="de", timeout=0.2)
    over.set()


def test_close_ends_an_iteration_with_a_typed_error(fake: FakeServer) -> None:
    begun, over = threading.Event(), threading.Event()

    def hold(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        begun.set()
        over.wait(30)
        return inference_pb2.TranslateResponse()

    fake.answer = hold
    client = Client(fake.address)

    def close() -> None:
        assert begun.wait(30)
        client.close()

    threading.Thread(target=close).start()
    with pytest.raises(dragoman.Cancelled):
        list(client.translate_many(["a"], target="de"))
    over.set()


def test_a_message_is_bounded_by_its_characters() -> None:
    pending = Pending(100)
    for text in ("x" * 40_000, "y" * 40_000, "z" * 100_000, "w"):
        pending.add(prepared(TEMPLATE, text))
    sizes = []
    while pending.unsent:
        sizes.append([len(item.request.text) for item in pending.message().items])
    assert sizes == [[40_000], [40_000], [100_000], [1]]


@given(st.lists(st.sampled_from(["add", "fault", "send", "answer", "break", "pop"]), max_size=80), st.integers(1, 5))
def test_whatever_happens_each_text_is_given_out_once_and_in_order(actions: list[str], size: int) -> None:
    pending = Pending(size)
    added: list[str] = []
    given_out: list[str] = []
    sent: dict[int, str] = {}
    for action in [*actions, *["send", "answer", "pop"] * 100]:
        if action in {"add", "fault"} and not pending.full:
            added.append(f"{action} {len(added)}")
            request = inference_pb2.TranslateRequest(text=added[-1])
            pending.add(dragoman.NotFound(added[-1]) if action == "fault" else request)
        elif action == "send":
            sent.update({item.id: item.request.text for item in pending.message().items})
        elif action == "answer" and sent:  # the last first, and twice
            item_id, text = sent.popitem()
            response = inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=text)])
            outcome = inference_pb2.TranslateOutcome(id=item_id, response=response)
            pending.answer(inference_pb2.TranslateManyResponse(outcomes=[outcome, outcome]))
        elif action == "break":
            sent.clear()
            pending.resend()
        elif action == "pop" and pending.ready:
            given_out.append(str(pending.pop()))
        assert pending.full == (len(added) - len(given_out) >= size)
    assert given_out == added
    assert pending.empty
    assert not pending.unanswered


def test_a_stream_that_broke_under_a_write_may_be_begun_again() -> None:
    nothing = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, nothing, nothing, details="Internal error from Core", debug_error_string=""
    )
    assert failure_of(lost).code is grpc.StatusCode.UNAVAILABLE
    told = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details="incident 5", debug_error_string="")
    assert (failure_of(told).code, failure_of(told).message) == (grpc.StatusCode.INTERNAL, "incident 5")
