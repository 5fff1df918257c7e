"""generate, with both clients and on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from typer.testing import CliRunner

import dragoman
from dragoman.cli.main import app
from dragoman.generation import GenerationReader
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke


def run(fake: FakeServer, *args: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, ["generate", "--server", fake.address, *args], input=stdin)


def test_text_grows_and_the_last_chunk_has_the_answer(fake: FakeServer, invoke: Invoke) -> None:
    chunks = invoke(fake.address, "generate", "abc", model="small", max_new_tokens=9, seed=7, temperature=0.5)
    shown = [(chunk.text, chunk.final_text, chunk.provisional_text) for chunk in chunks]
    assert shown == [("a", "a", "bc"), ("b", "ab", "c"), ("c", "abc", ""), ("", "abc", "")]
    assert [chunk.answer for chunk in chunks[:-1]] == [None] * 3
    answer = chunks[-1].answer
    assert (answer.text, answer.finish_reason) == ("abc", dragoman.FinishReason.LENGTH)
    assert (answer.discarded_tokens, answer.usage, answer.model) == (2, dragoman.Usage(3, 2), "small")
    assert (answer.receipt.queue_ms, answer.receipt.lane) == (1.5, 1)
    options = inference_pb2.DecodingOptions(max_length=9, seed=7, temperature=0.5)
    assert fake.asked == [inference_pb2.GenerateRequest(prompt="abc", model="small", options=options)]


def test_what_is_left_out_is_not_sent(fake: FakeServer, invoke: Invoke) -> None:
    invoke(fake.address, "generate", "", context_overflow="slide", priority=3, stop=None)
    slide = inference_pb2.CONTEXT_OVERFLOW_SLIDE
    assert fake.asked == [inference_pb2.GenerateRequest(context_overflow=slide, priority=3)]


def test_all_faults_are_told_at_once(invoke: Invoke) -> None:
    wrong: dict[str, Any] = {
        "model": b"m",
        "max_new_tokens": "many",
        "context_overflow": "drop",
        "priority": -1,
        "top_p": "all",
    }
    with pytest.raises(dragoman.InvalidArgument) as raised:
        invoke("localhost:1", "generate", 1, **wrong)
    fields = {violation.field for violation in raised.value.violations}
    assert fields == {"prompt", "model", "options.max_length", "context_overflow", "priority", "options.top_p"}


@pytest.mark.parametrize("option", ["max_length", "max_length_ratio", "coverage_penalty", "target"])
def test_what_does_not_belong_to_generation_is_no_keyword(invoke: Invoke, option: str) -> None:
    with pytest.raises(TypeError, match=option):
        named: dict[str, Any] = {option: 1}
        invoke("localhost:1", "generate", "a", **named)


def test_it_is_tried_again_until_it_has_begun(fake: FakeServer, invoke: Invoke) -> None:
    def refuse(request: Any, context: Any) -> None:
        if len(fake.asked) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

    fake.refuse_families = refuse
    assert invoke(fake.address, "generate", "ab")[-1].final_text == "ab"
    assert len(fake.asked) == 3


def test_a_stream_without_an_answer_breaks_the_protocol() -> None:
    reader = GenerationReader()
    assert reader.read(inference_pb2.GenerateChunk(final_text_delta="a")) == dragoman.GeneratedChunk("a", "a", "")
    with pytest.raises(dragoman.InternalError, match="without an answer"):
        reader.last(())


def test_the_command_prints_text_as_it_comes(fake: FakeServer) -> None:
    assert run(fake, "one two").stdout == "one two\n"
    assert run(fake, "one two", "--echo").stdout == "one twoone two\n"
    assert run(fake, stdin="a\nb\n").stdout == "a\nb\n"
    assert fake.asked[-1].prompt == "a\nb\n"


def test_the_command_shows_every_hypothesis_and_json(fake: FakeServer) -> None:
    assert run(fake, "a\nbc", "--num-hypotheses", "2", "--top-k", "9").stdout == "-0.5000\ta bc\n-1.0000\ta b\n"
    lines = [json.loads(line) for line in run(fake, "ab", "--json").stdout.splitlines()]
    assert [line["text"] for line in lines] == ["a", "b", ""]
    assert lines[-1]["answer"]["hypotheses"][0]["text"] == "ab"


def test_the_command_tells_what_went_wrong(fake: FakeServer) -> None:
    fake.refuse_families = lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND, "no model 'x'")
    result = run(fake, "a", "--model", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "dragoman generate: no model 'x'\n")
    assert "--coverage-penalty" not in run(fake, "--help").stdout
