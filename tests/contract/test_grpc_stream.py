"""StreamTranslate, Score and texts of several segments on a real server over a fake engine."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_protos.v1 import inference_pb2
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.errors import Internal, Overloaded, ServerError, Unavailable
from dragoman_server.lanes import LATE
from dragoman_server.request import Completion, Progress, Request
from dragoman_server.service.responses import translate_response
from dragoman_server.service.translations import Segment, Translation
from tests.contract.conftest import RECEIPT, FakeEngine, answer, echo, model

if TYPE_CHECKING:
    from tests.contract.conftest import Harness


def request(text: str, **fields: object) -> inference_pb2.TranslateRequest:
    return inference_pb2.TranslateRequest(text=text, target_language="de", **fields)  # type: ignore[arg-type]


def typing_out(submitted: Request) -> None:
    """Upper case, letter by letter from another thread, each with the next as provisional."""
    ids = [ord(chr(token_id).upper()) for token_id in submitted.source_ids[1:-1]]

    def run() -> None:
        for count in range(1, len(ids)):
            if submitted.progress is not None:
                submitted.progress(Progress(ids[:count], ids[count : count + 1]))
            time.sleep(0.003)
        submitted.finish(echo(submitted))

    threading.Thread(target=run).start()


async def chunks(harness: Harness, asked: inference_pb2.TranslateRequest) -> list[inference_pb2.TranslateChunk]:
    return [chunk async for chunk in harness.inference.StreamTranslate(asked)]


@pytest.mark.parametrize("text", ["hello there", "One two. Three!\n\n  -- \n Four five six.\n"])
async def test_the_deltas_are_the_text_and_the_last_chunk_is_the_unary_answer(serving: Harness, text: str) -> None:
    serving.engine.behave = typing_out
    call = serving.inference.StreamTranslate(request(text))
    received = [chunk async for chunk in call]
    assert "".join(chunk.final_text_delta for chunk in received) == text.upper()
    assert len(received) > 3
    assert any(chunk.provisional_text for chunk in received)
    assert [chunk.HasField("response") for chunk in received] == [False] * (len(received) - 1) + [True]
    assert received[-1].response == await serving.inference.Translate(request(text))
    final = ""
    for chunk in received:
        final += chunk.final_text_delta
        assert text.upper().startswith(final)
    trailing = dict(iter(await call.trailing_metadata()))
    assert trailing["dragoman-precision"] == "int8"


async def test_what_has_come_while_nobody_read_is_one_chunk(serving: Harness) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def behave(submitted: Request) -> None:
        def run() -> None:
            assert submitted.progress is not None
            began = time.monotonic()
            for count in range(200_000):
                submitted.progress(Progress([97] * (count % 30), []))
            assert time.monotonic() - began < 30
            loop.call_soon_threadsafe(told.set)
            submitted.finish(echo(submitted))

        threading.Thread(target=run).start()

    serving.engine.behave = behave
    call = serving.inference.StreamTranslate(request("a" * 40))
    async with asyncio.timeout(60):
        await told.wait()  # nothing has been read, and yet the lane is through
    received = [chunk async for chunk in call]
    assert received[-1].response.hypotheses[0].text == "A" * 40
    assert len(received) <= 32


async def test_leaving_cancels_all_segments(serving: Harness) -> None:
    serving.engine.behave = lambda submitted: None
    call = serving.inference.StreamTranslate(request("One.\nTwo."))
    reading = asyncio.ensure_future(call.read())
    async with asyncio.timeout(10):
        requests = [await serving.engine.submitted.get() for _ in range(2)]
        call.cancel()
        while not all(submitted.cancelled for submitted in requests):
            await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_stream_fails_with_the_status_that_a_call_fails_with(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await chunks(serving, request("", priority=10))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    def behave(submitted: Request) -> None:
        assert submitted.progress is not None
        submitted.progress(Progress([65], []))
        submitted.finish(Internal("abc"))

    serving.engine.behave = behave
    with pytest.raises(grpc.aio.AioRpcError, match="incident abc"):
        await chunks(serving, request("hello"))


async def test_segments_are_translated_together_and_lined_up(serving: Harness) -> None:
    text = " One two. Three?\r\n\r\n\t***\r\nFour!\n"
    response = await serving.inference.Translate(request(text, priority=7))
    (hypothesis,) = response.hypotheses
    assert hypothesis.text == text.upper()
    shown = [
        (text[s.source_begin : s.source_end], hypothesis.text[s.target_begin : s.target_end], s.score, s.copied)
        for s in response.segments
    ]
    assert shown == [
        ("One two.", "ONE TWO.", -2.25, False),
        ("Three?", "THREE?", -1.75, False),
        ("***", "***", 0, True),
        ("Four!", "FOUR!", -1.5, False),
    ]
    assert "".join(hypothesis.tokens) == "ONE TWO.THREE?FOUR!"
    assert (hypothesis.score, hypothesis.rank_score) == (-5.5, -0.25)
    assert response.usage == inference_pb2.Usage(source_tokens=25, target_tokens=22)
    requests = [serving.engine.submitted.get_nowait() for _ in range(3)]
    assert {submitted.priority for submitted in requests} == {7}


async def test_where_the_queue_fills_up_the_rest_of_a_text_waits(serving: Harness) -> None:
    refusals = 3

    def behave(submitted: Request) -> None:
        nonlocal refusals
        if submitted.source_ids[1] == ord("T") and refusals:
            refusals -= 1
            raise Overloaded("the queue is full", 0.01)
        submitted.finish(echo(submitted))

    serving.engine.behave = behave
    text = "One.\nTwo.\nThree."
    assert (await serving.inference.Translate(request(text))).hypotheses[0].text == text.upper()
    assert refusals == 0
    refusals = 3
    received = await chunks(serving, request(text))
    assert "".join(chunk.final_text_delta for chunk in received) == text.upper()
    refusals = 1
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # nothing of it was taken: the caller is told at once
        await serving.inference.Translate(request("Two.\nOne."))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "10" in str(raised.value.trailing_metadata())


async def test_a_text_of_which_a_segment_would_end_too_late_is_refused_at_once(serving: Harness) -> None:
    held: list[Request] = []

    def behave(submitted: Request) -> None:
        if len(held) == 2:
            raise Overloaded("the deadline cannot be met", 1.5, LATE)
        held.append(submitted)

    serving.engine.behave = behave
    text = request("One.\nTwo.\nThree.")
    for awaited in (serving.inference.Translate(text, timeout=30), chunks(serving, text)):
        held.clear()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await awaited
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1500" in str(raised.value.trailing_metadata())
        assert [submitted.cancelled for submitted in held] == [True, True]


async def test_what_an_idle_engine_took_of_a_refused_text_is_decoded_all_the_same(serving: Harness) -> None:
    held: list[Request] = []

    def behave(submitted: Request) -> None:
        if len(held) == 2:
            raise Overloaded("the deadline cannot be met", 1.5, LATE)
        submitted.unjudged = not held
        held.append(submitted)

    serving.engine.behave = behave
    with pytest.raises(grpc.aio.AioRpcError, match="the deadline cannot be met"):
        await serving.inference.Translate(request("One.\nTwo.\nThree."), timeout=30)
    assert [submitted.cancelled for submitted in held] == [False, True]
    held[0].finish(echo(held[0]))  # nobody waits for it any more
    serving.engine.behave = answer(echo)
    assert (await serving.inference.Translate(request("Four."))).hypotheses[0].text == "FOUR."


async def test_an_engine_that_ends_in_the_middle_of_a_text_ends_the_call(serving: Harness) -> None:
    held: list[Request] = []
    errors: list[ServerError] = [Unavailable("the server is shutting down"), Overloaded("the queue is full", 0.01)]

    def behave(submitted: Request) -> None:
        if held:
            raise errors.pop()
        held.append(submitted)

    serving.engine.behave = behave
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.inference.Translate(request("One.\nTwo."))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [submitted.cancelled for submitted in held] == [True]
    assert not errors


async def test_a_text_without_anything_to_translate_is_copied(serving: Harness) -> None:
    response = await serving.inference.Translate(request("--\n  ...\n"))
    assert response.hypotheses[0].text == "--\n  ...\n"
    assert [s.copied for s in response.segments] == [True, True]
    assert serving.engine.submitted.empty()
    received = await chunks(serving, request("--\n  ...\n"))
    assert "".join(chunk.final_text_delta for chunk in received) == "--\n  ...\n"


async def test_a_sentence_beyond_the_model_s_limit_is_cut_and_joined(serving: Harness) -> None:
    text = "one two three, four five six seven, " * 40 + "end"
    response = await serving.inference.Translate(request(text))
    assert response.hypotheses[0].text == text.upper()
    assert len(response.segments) > 20
    none = request(text, segmentation=inference_pb2.SEGMENTATION_NONE)
    with pytest.raises(grpc.aio.AioRpcError, match="at most 42 tokens"):
        await serving.inference.Translate(none)


async def test_score_forces_the_target(serving: Harness) -> None:
    def behave(submitted: Request) -> None:
        options = submitted.options
        assert options.forced
        assert options.max_length == len(options.prefix)
        ids = list(options.prefix[:-1])
        answer = Answer(ids, [-0.5] * len(options.prefix), FinishReason.STOP, -0.5)
        submitted.finish(Completion([answer], RECEIPT))

    serving.engine.behave = behave
    asked = inference_pb2.ScoreRequest(text="hi", target="ja", target_language="de", priority=3)
    call = serving.inference.Score(asked)
    response = await call
    assert response == inference_pb2.ScoreResponse(
        score=-1.5,
        token_log_probs=[-0.5] * 3,
        tokens=["j", "a"],
        usage=inference_pb2.Usage(source_tokens=4, target_tokens=3),
        model="deu-eng",
        model_version="7",
    )
    assert dict(iter(await call.trailing_metadata()))["dragoman-steps"] == "4"
    assert serving.engine.submitted.get_nowait().priority == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.floats(-9, 0)), min_size=1, max_size=4), st.integers(1, 3))
def test_hypotheses_of_several_segments_are_joined_by_their_place(parts: list[tuple[int, float]], most: int) -> None:
    text = "x\n" * len(parts)
    segments = [Segment(2 * i, 2 * i + 1, [4, 120, 3]) for i in range(len(parts))]
    completions = [
        Completion(
            [
                Answer([65 + i, 65 + number], [rank, rank], FinishReason.LENGTH, rank)
                for number in range(max(count, most))
            ],
            RECEIPT,
        )
        for i, (count, rank) in enumerate(parts)
    ]
    response = translate_response(Translation(model(FakeEngine()), text, segments, hypotheses=most), completions)
    assert len(response.hypotheses) == min(max(count, most) for count, _ in parts)
    for number, hypothesis in enumerate(response.hypotheses):
        assert hypothesis.text == "".join(f"{chr(65 + i)}{chr(65 + number)}\n" for i in range(len(parts)))
        assert hypothesis.finish_reason == inference_pb2.FINISH_REASON_LENGTH
        assert hypothesis.score == pytest.approx(sum(2 * rank for _, rank in parts), abs=1e-4)
        assert hypothesis.rank_score == pytest.approx(sum(rank for _, rank in parts) / len(parts), abs=1e-4)
