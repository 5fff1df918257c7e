"""stream_translate and score, with both clients and on the command line."""

from __future__ import annotations

import json
import threading
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import typer
from typer.testing import CliRunner

import dragoman
from dragoman import AsyncClient, Client, wire
from dragoman.cli.main import GROUP, guarded
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke


def test_final_text_grows_and_the_last_chunk_is_the_translation(fake: FakeServer, invoke: Invoke) -> None:
    chunks = invoke(fake.address, "stream_translate", "abc", target="de", priority=2, beam_size=3)
    shown = [(chunk.final_text, chunk.provisional_text) for chunk in chunks]
    assert shown == [("c", "ba"), ("cb", "a"), ("cba", ""), ("cba", "")]
    assert [chunk.translation for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1].translation == invoke(fake.address, "translate", "abc", target="de")
    assert (fake.requests[0].priority, fake.requests[0].options.beam_size) == (2, 3)


def test_a_stream_is_tried_again_until_it_has_begun(fake: FakeServer, invoke: Invoke) -> None:
    left = [2]

    def fail(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if left[0]:
            left[0] -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text="ok")])

    fake.answer = fail
    assert invoke(fake.address, "stream_translate", "a", target="de")[-1].final_text == "ok"
    assert len(fake.requests) == 3


def test_a_stream_that_breaks_after_it_has_begun_is_a_typed_error(fake: FakeServer, invoke: Invoke) -> None:
    fake.between_chunks = lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
    with pytest.raises(dragoman.Unavailable, match="gone"):
        invoke(fake.address, "stream_translate", "abc", target="de")
    assert len(fake.requests) == 1


def test_a_stream_without_an_answer_breaks_the_protocol() -> None:
    reader = wire.ChunkReader()
    assert reader.read(inference_pb2.TranslateChunk(final_text_delta="a")) == dragoman.Chunk("a", "")
    with pytest.raises(dragoman.InternalError, match="without an answer"):
        reader.last(())


def held(fake: FakeServer) -> threading.Event:
    """Set when the call has ended; it waits after its first chunk."""
    ended = threading.Event()

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        context.add_callback(ended.set)
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text="cba")])

    fake.answer = answer
    fake.between_chunks = lambda *_: ended.wait(30)
    return ended


def test_walking_away_cancels_the_call(fake: FakeServer) -> None:
    ended = held(fake)
    with Client(fake.address) as client:
        chunks = client.stream_translate("abc", target="de")
        assert next(chunks).final_text == "c"
        chunks.close()
        assert ended.wait(30)


async def test_walking_away_cancels_the_call_async(fake: FakeServer) -> None:
    ended = held(fake)
    async with AsyncClient(fake.address) as client:
        chunks = client.stream_translate("abc", target="de")
        assert (await anext(chunks)).final_text == "c"
        await chunks.aclose()
        assert ended.wait(30)


def test_close_is_a_typed_error_for_whoever_reads(fake: FakeServer) -> None:
    held(fake)
    client = Client(fake.address)
    chunks = client.stream_translate("abc", target="de")
    next(chunks)
    client.close()
    with pytest.raises(dragoman.Cancelled):
        next(chunks)
    with pytest.raises(RuntimeError, match="closed"):
        client.stream_translate("abc", target="de")


def test_score(fake: FakeServer, invoke: Invoke) -> None:
    told = invoke(fake.address, "score", "abc", "xy", target="de", source="en", model="deu-eng", priority=9)
    assert told == dragoman.Score(
        score=-1.5,
        tokens=("x", "y"),
        token_log_probs=(-0.5, -0.5, -0.5),
        usage=dragoman.Usage(5, 3),
        receipt=dragoman.Receipt(queue_ms=1.5),
        model="deu-eng",
        model_version="1",
    )
    assert fake.scored == [
        inference_pb2.ScoreRequest(
            text="abc", target="xy", target_language="de", source_language="en", model="deu-eng", priority=9
        )
    ]


def test_misfits_are_told_at_once(invoke: Invoke) -> None:
    with pytest.raises(dragoman.InvalidArgument) as caught:
        invoke("localhost:1", "score", 1, b"x", target="de", priority=-1)
    assert [v.field for v in caught.value.violations] == ["text", "target", "priority"]
    with pytest.raises(dragoman.InvalidArgument) as caught:
        invoke("localhost:1", "stream_translate", "a", target="de", segmentation="words", priority="high")
    assert [str(v) for v in caught.value.violations] == [
        "segmentation = 'words': 'auto' or 'sentences' or 'none'",
        "priority = 'high': a whole number from 0 to 9",
    ]


def run(command: str, fake: FakeServer, *args: str, stdin: str | bytes | None = None) -> Any:
    point = EntryPoint(command, f"dragoman.cli.{command}:{command}", GROUP)
    single = typer.Typer()
    single.command()(guarded(point, point.load()))
    return CliRunner().invoke(single, ["--server", fake.address, "--target", "de", *args], input=stdin)


def test_the_command_prints_what_is_final(fake: FakeServer) -> None:
    result = run("translate", fake, "--stream", "--priority", "4", "--segmentation", "sentences", stdin="ab\ncd\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "\ndc\nba\n", "")
    (request,) = fake.requests
    assert (request.text, request.priority) == ("ab\ncd\n", 4)
    assert request.segmentation == inference_pb2.SEGMENTATION_SENTENCES
    chunks = [json.loads(line) for line in run("translate", fake, "--stream", "--json", "ab").stdout.splitlines()]
    assert [chunk["final_text"] for chunk in chunks] == ["b", "ba", "ba"]
    assert chunks[-1]["translation"]["usage"] == {"source_tokens": 4, "target_tokens": 3}


@pytest.mark.parametrize(("stdin", "told"), [(b"\xff", "UTF-8"), (b"x" * ((1 << 20) + 1), "at most 1048576 bytes")])
def test_a_document_that_is_no_text_is_told(fake: FakeServer, stdin: bytes, told: str) -> None:
    result = run("translate", fake, "--stream", stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr


def test_the_command_scores_a_pair_or_lines(fake: FakeServer) -> None:
    assert run("score", fake, "abc", "xy").stdout == "-1.5000\n"
    result = run("score", fake, stdin="a\txyz\nalone\nb\t\nc\tx\n")
    assert (result.exit_code, result.stdout) == (1, "-2.0000\n\n\n-1.0000\n")
    assert result.stderr.splitlines() == [
        "dragoman score: line 2: line = one text: a text and its translation, parted by a tab",
        "dragoman score: line 3: nothing to score",
    ]
    assert json.loads(run("score", fake, "--json", "abc", "xy").stdout)["tokens"] == ["x", "y"]
