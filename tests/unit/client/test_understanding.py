"""classify, tag, fill_mask and embed, with both clients and on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import dragoman
from dragoman.cli.main import app
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke


def run(fake: FakeServer, command: str, *args: str, stdin: str | bytes | None = None) -> Any:
    return CliRunner().invoke(app, [command, "--server", fake.address, *args], input=stdin)


def test_classify(fake: FakeServer, invoke: Invoke) -> None:
    found = invoke(
        fake.address, "classify", "abc", text_pair="d", model="small", top_k=2, min_probability=0.25, priority=1
    )
    assert found.labels == (dragoman.Label("short", 0.75), dragoman.Label("long", 0.25))
    assert (found.out_of_scope, found.label, found.usage) == (False, "short", dragoman.Usage(3, 2))
    assert (found.receipt.lane, found.model, found.model_version) == (1, "small", "4")
    expected = inference_pb2.ClassifyRequest(
        text="abc", text_pair="d", model="small", top_k=2, min_probability=0.25, priority=1
    )
    assert fake.asked == [expected]
    assert invoke(fake.address, "classify", "what?").label is None


def test_tag(fake: FakeServer, invoke: Invoke) -> None:
    found = invoke(fake.address, "tag", "ein Wort")
    assert found.spans == (dragoman.Span("WORD", 0, 3, "ein", 0.5), dragoman.Span("WORD", 4, 8, "Wort", 0.5))


def test_fill_mask(fake: FakeServer, invoke: Invoke) -> None:
    found = invoke(fake.address, "fill_mask", "a [MASK] c", top_k=1)
    assert found.masks == (dragoman.FilledMask(2, 8, (dragoman.MaskCandidate("Ġa", " a", 0.5),)),)


def test_embed(fake: FakeServer, invoke: Invoke) -> None:
    found = invoke(fake.address, "embed", ["ab", "c d e"], pooling="cls", normalise=False)
    assert (found.vectors, found.note) == (((2.0, 1.0), (5.0, 3.0)), "for counting")
    cls = inference_pb2.POOLING_CLS
    assert fake.asked == [inference_pb2.EmbedRequest(texts=["ab", "c d e"], pooling=cls, normalise=False)]
    invoke(fake.address, "embed", ("ab",))
    assert not fake.asked[-1].HasField("normalise")


@pytest.mark.parametrize(
    ("method", "text", "named", "fields"),
    [
        (
            "classify",
            1,
            {"text_pair": b"x", "top_k": -1, "min_probability": "much", "priority": 1.5},
            {"text", "text_pair", "top_k", "min_probability", "priority"},
        ),
        ("tag", None, {"model": 3}, {"text", "model"}),
        ("fill_mask", "\ud800", {"top_k": True}, {"text", "top_k"}),
        ("embed", ["a", 2], {"pooling": "max", "normalise": 1}, {"texts[1]", "pooling", "normalise"}),
        ("embed", "a", {}, {"texts"}),
    ],
)
def test_all_faults_are_told_at_once(
    invoke: Invoke, method: str, text: object, named: dict[str, Any], fields: set[str]
) -> None:
    with pytest.raises(dragoman.InvalidArgument) as raised:
        invoke("localhost:1", method, text, **named)
    assert {violation.field for violation in raised.value.violations} == fields


def test_commands_are_filters(fake: FakeServer) -> None:
    assert run(fake, "classify", stdin="ab\nabcdef\nwhat?\n").stdout == "short\t0.7500\nlong\t0.5000\n-\tlong\t0.5000\n"
    assert run(fake, "classify", "ab", "--top-k", "2").stdout == "short\t0.7500\tlong\t0.2500\n"
    assert run(fake, "tag", "ein Wort", "zwei").stdout == "ein/WORD\tWort/WORD\nzwei/WORD\n"
    assert run(fake, "fill-mask", "a [MASK] [MASK]").stdout == "a\t0.5000\ta\t0.5000\n"
    assert run(fake, "embed", "c d e", "--no-normalise").stdout == "5\t3\n"
    assert not fake.asked[-1].normalise
    assert fake.asked[-1].HasField("normalise")


def test_pairs_stand_between_a_tab(fake: FakeServer) -> None:
    result = run(fake, "classify", "--pairs", stdin="ab\tc\nalone\nd\te\n")
    assert (result.exit_code, result.stdout) == (1, "short\t0.7500\n\nshort\t0.7500\n")
    assert result.stderr == "dragoman classify: line 2: text = one text: two texts, parted by a tab\n"
    assert sorted(request.text_pair for request in fake.asked) == ["c", "e"]


def test_a_line_that_fails_leaves_a_gap(fake: FakeServer) -> None:
    result = run(fake, "classify", "--json", stdin=b"ab\nbad\n\xff\nab\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line and line["labels"][0]["label"] for line in lines] == ["short", None, None, "short"]
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["line 2", "line 3"]
