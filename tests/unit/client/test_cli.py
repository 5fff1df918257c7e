"""The commands of the client against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import grpc
from typer.testing import CliRunner

from dragoman.cli.main import app
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.client.conftest import FakeServer

# Whoever runs the tests in the background hands SIGINT down ignored; Python then leaves it so.
HEARS_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEARS_SIGINT}; from dragoman.cli.main import main; main()"]


def run(*args: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, list(args), input=stdin, env=env)


def translate(fake: FakeServer, *args: str, stdin: str | bytes | None = None) -> Any:
    return run("translate", "--server", fake.address, "--target", "de", *args, stdin=stdin)


def refuse(text: str, field: str) -> Callable[[inference_pb2.TranslateRequest, Any], inference_pb2.TranslateResponse]:
    """An answer that finds fault with one text and turns the others to upper case."""

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if request.text == text:
            fault = inference_pb2.Violation(field=field, value="900 tokens", limit="1 to 128")
            details = inference_pb2.ErrorDetails(violations=[fault]).SerializeToString()
            context.set_trailing_metadata((("dragoman-error-bin", details),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=request.text.upper())])

    return answer


def test_texts(fake: FakeServer) -> None:
    result = translate(fake, "abc", "de f")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "cba\nf ed\n", "")


def test_options_reach_the_server(fake: FakeServer) -> None:
    translate(fake, "abc", "--source", "en", "--model", "deu-eng", "--max-length", "7")
    expected = inference_pb2.TranslateRequest(
        text="abc",
        target_language="de",
        source_language="en",
        model="deu-eng",
        options=inference_pb2.DecodingOptions(max_length=7),
    )
    assert fake.requests == [expected]


def test_the_environment_names_the_server_and_a_flag_outranks_it(fake: FakeServer) -> None:
    here, nowhere = {"DRAGOMAN_SERVER": fake.address}, {"DRAGOMAN_SERVER": "nowhere"}
    assert run("translate", "--target", "de", "ab", env=here).stdout == "ba\n"
    assert run("translate", "--target", "de", "--server", fake.address, "ab", env=nowhere).stdout == "ba\n"


def test_a_filter_keeps_lines_order_and_gaps(fake: FakeServer) -> None:
    lines = [("" if i % 7 == 0 else f"line {i} ü") for i in range(500)]
    result = translate(fake, stdin="\n".join(lines) + "\n")
    assert result.exit_code == 0
    assert result.stdout.split("\n") == [line[::-1] for line in lines] + [""]
    assert fake.peak <= 512


def test_line_ends_and_a_missing_last_one(fake: FakeServer) -> None:
    assert translate(fake, stdin=b"ab\r\n\r\n  \ncd").stdout == "ba\n\n\ndc\n"
    assert translate(fake, stdin="").stdout == ""


def test_an_answer_of_several_lines_stays_one(fake: FakeServer) -> None:
    fake.answer = lambda *_: inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text="a\nb")])
    assert translate(fake, stdin="x\n").stdout == "a b\n"


def test_json(fake: FakeServer) -> None:
    result = translate(fake, "--json", stdin="ab\n\n")
    first, second = map(json.loads, result.stdout.splitlines())
    assert second is None
    assert (first["text"], first["model"], first["usage"]) == (
        "ba",
        "deu-eng",
        {"source_tokens": 4, "target_tokens": 3},
    )
    assert first["hypotheses"][0]["finish_reason"] == "stop"
    assert first["receipt"]["queue_ms"] == 1.5


def test_a_bad_line_is_told_by_number_and_the_rest_goes_on(fake: FakeServer) -> None:
    fake.answer = refuse("bad", "text")
    result = translate(fake, stdin=b"one\nbad\n\xff\n" + b"x" * (1 << 20) + b"y\nlast\n")
    assert result.exit_code == 1
    assert result.stdout == "ONE\n\n\n\nLAST\n"
    assert result.stderr.splitlines() == [
        "dragoman translate: line 2: text = 900 tokens: 1 to 128",
        r"dragoman translate: line 3: text = b'\xff': UTF-8 (byte 1 is not)",
        "dragoman translate: line 4: text = at least 1048576 bytes: fewer than 1048576 bytes",
    ]


def test_a_single_bad_text_needs_no_number(fake: FakeServer) -> None:
    fake.answer = refuse("bad", "text")
    result = translate(fake, "bad")
    assert (result.exit_code, result.stderr) == (1, "dragoman translate: text = 900 tokens: 1 to 128\n")


def test_a_fault_of_the_options_ends_the_run(fake: FakeServer) -> None:
    fake.answer = refuse("bad", "options.max_length")
    result = translate(fake, stdin="one\nbad\ntwo\n")
    assert result.exit_code == 1
    assert result.stdout == "ONE\n"
    assert result.stderr == "dragoman translate: line 2: options.max_length = 900 tokens: 1 to 128\n"


def test_a_prefix_that_one_text_has_no_room_for_is_that_lines_fault(fake: FakeServer) -> None:
    fake.answer = refuse("bad", "options.target_prefix")
    result = translate(fake, "--target-prefix", "DER", "--max-length-ratio", "1", stdin="one\nbad\ntwo\n")
    assert (result.exit_code, result.stdout) == (1, "ONE\n\nTWO\n")
    assert result.stderr == "dragoman translate: line 2: options.target_prefix = 900 tokens: 1 to 128\n"


def test_streamed_texts_go_on_after_one_that_fails_or_is_blank(fake: FakeServer) -> None:
    fake.answer = refuse("bad", "text")
    result = translate(fake, "--stream", "one", " ", "bad", "two")
    assert (result.exit_code, result.stdout) == (1, "ONE\n\n\nTWO\n")
    assert result.stderr == "dragoman translate: text 3: text = 900 tokens: 1 to 128\n"
    *_, answer, blank, failed = translate(fake, "--stream", "--json", "one", " ", "bad").stdout.splitlines()
    assert (json.loads(answer)["translation"]["hypotheses"][0]["text"], blank, failed) == ("ONE", "null", "null")
    fake.answer = refuse("bad", "options.max_length")
    assert translate(fake, "--stream", "bad", "two").stdout == ""


def test_a_stream_shows_one_hypothesis_or_says_so(fake: FakeServer) -> None:
    for flag, field in (("--num-hypotheses", "num_hypotheses"), ("--alternatives", "alternatives")):
        result = translate(fake, "--stream", "--beam-size", "4", flag, "3", "one")
        assert (result.exit_code, result.stdout) == (1, "")
        limit = "1 hypothesis with --stream, or --json with it"
        assert result.stderr == f"dragoman translate: options.{field} = 3: {limit}\n"
    assert not fake.requests
    assert translate(fake, "--stream", "--json", "--num-hypotheses", "3", "one").exit_code == 0


def test_no_server_is_one_clear_line(fake: FakeServer) -> None:
    fake.stop()
    result = translate(fake, "a")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert str(fake.port) in result.stderr
    result = run("models", "--server", "nowhere")
    assert (result.exit_code, result.stderr) == (
        1,
        "dragoman models: address = 'nowhere': HOST:PORT or [IPV6]:PORT, or unix:PATH\n",
    )


def test_models(fake: FakeServer) -> None:
    model = fake.served.models.add(name="deu-eng", version="1", languages=["de", "en"], precision="int8", default=True)
    fake.bundles.model.CopyFrom(model)
    fake.bundles.bundle.description = "both ways"
    server = ("--server", fake.address)
    header, row = run("models", *server).stdout.splitlines()
    assert header.startswith("NAME ")
    assert row.split()[:2] == ["deu-eng*", "1"]
    (record,) = json.loads(run("models", "--json", *server).stdout)
    assert (record["name"], record["languages"], record["default"]) == ("deu-eng", ["de", "en"], True)
    assert "both ways" in run("models", "deu-eng", *server).stdout
    assert json.loads(run("models", "deu-eng", "--json", *server).stdout)["bundle"] == {"description": "both ways"}
    assert run("models", "other", *server).stderr == "dragoman models: no model 'other'\n"


def pipe(fake: FakeServer) -> subprocess.Popen[bytes]:
    """The filter in a process of its own, with pipes at both ends."""
    command = [*COMMAND, "translate", "--server", fake.address, "--target", "de"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_filter_answers_each_line_at_once(fake: FakeServer) -> None:
    with pipe(fake) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"ab\n", b"\n", b"cd\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line.strip()[::-1] + b"\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_an_interrupt_ends_quietly_and_cancels(fake: FakeServer) -> None:
    begun, ended = threading.Event(), threading.Event()

    def hold(_: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        over = threading.Event()
        context.add_callback(over.set)
        begun.set()
        over.wait(30)
        ended.set()
        return inference_pb2.TranslateResponse()

    fake.answer = hold
    with pipe(fake) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"ab\n")
        process.stdin.flush()
        assert begun.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b""
        assert ended.wait(30)


def test_a_reader_that_has_enough_ends_it_quietly(fake: FakeServer) -> None:
    with pipe(fake) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"ab\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ba\n"
        process.stdout.close()
        process.stdin.write(b"cd\n")
        process.stdin.flush()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""
