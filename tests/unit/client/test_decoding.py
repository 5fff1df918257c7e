"""Every option of decoding: from the keyword and from the command line to the wire."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from dragoman import AsyncClient, Client, Decoding, FinishReason, InvalidArgument, wire
from dragoman.cli.decoding import OPTIONS
from dragoman.cli.main import app
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke

FIELDS = inference_pb2.DecodingOptions.DESCRIPTOR.fields_by_name

# Keyword: a value, what the wire then holds, and the same on the command line.
TABLE: dict[str, tuple[Any, Any, list[str]]] = {
    "max_length": (90, 90, ["--max-length", "90"]),
    "min_length": (0, 0, ["--min-length", "0"]),
    "max_length_ratio": (2, 2.0, ["--max-length-ratio", "2"]),
    "min_length_ratio": (0.5, 0.5, ["--min-length-ratio", "0.5"]),
    "beam_size": (4, 4, ["--beam-size", "4"]),
    "num_hypotheses": (2, 2, ["--num-hypotheses", "2"]),
    "length_penalty": (0.0, 0.0, ["--length-penalty", "0"]),
    "length_normalisation": ("wu", 1, ["--length-normalisation", "wu"]),
    "coverage_penalty": (0.25, 0.25, ["--coverage-penalty", "0.25"]),
    "patience": (1.5, 1.5, ["--patience", "1.5"]),
    "early_stopping": (True, True, ["--early-stopping"]),
    "temperature": (0.75, 0.75, ["--temperature", "0.75"]),
    "top_k": (50, 50, ["--top-k", "50"]),
    "top_p": (0.875, 0.875, ["--top-p", "0.875"]),
    "min_p": (0.0625, 0.0625, ["--min-p", "0.0625"]),
    "typical_p": (0.25, 0.25, ["--typical-p", "0.25"]),
    "seed": (2**64 - 1, 2**64 - 1, ["--seed", str(2**64 - 1)]),
    "repetition_penalty": (1.25, 1.25, ["--repetition-penalty", "1.25"]),
    "presence_penalty": (-0.5, -0.5, ["--presence-penalty", "-0.5"]),
    "frequency_penalty": (0.5, 0.5, ["--frequency-penalty", "0.5"]),
    "no_repeat_ngram_size": (3, 3, ["--no-repeat-ngram-size", "3"]),
    "banned_words": (("a b", "ü"), ["a b", "ü"], ["--banned-word", "a b", "--banned-word", "ü"]),
    "allowed_words": (["yes", "no"], ["yes", "no"], ["--allowed-word", "yes", "--allowed-word", "no"]),
    "target_prefix": ("Der ", "Der ", ["--target-prefix", "Der "]),
    "alternatives": (3, 3, ["--alternatives", "3"]),
    "stop": ([";", "\n"], [";", "\n"], ["--stop", ";", "--stop", "\n"]),
    "replace_unknowns": (True, True, ["--replace-unknowns"]),
}


def options(**expected: Any) -> inference_pb2.DecodingOptions:
    return inference_pb2.DecodingOptions(**expected)


def sent(decoding: Any) -> inference_pb2.TranslateRequest:
    return wire.translate_request("a", target="de", source=None, model=None, decoding=decoding)


def test_every_field_has_a_keyword_an_option_and_a_row_here() -> None:
    assert set(Decoding.__annotations__) == set(FIELDS)
    assert list(OPTIONS) == list(FIELDS)
    assert list(TABLE) == list(FIELDS)


def test_every_normalisation_has_its_word() -> None:
    names = inference_pb2.LengthNormalisation.DESCRIPTOR.values_by_name
    literal, _ = typing.get_args(typing.get_type_hints(Decoding)["length_normalisation"])
    assert typing.get_args(literal) == tuple(n.removeprefix("LENGTH_NORMALISATION_").lower() for n in names)
    for word, number in zip(typing.get_args(literal), names.values(), strict=True):
        assert sent({"length_normalisation": word}).options.length_normalisation == number.number


def test_every_finish_reason_has_its_word() -> None:
    names = inference_pb2.FinishReason.DESCRIPTOR.values_by_name
    words = {name.removeprefix("FINISH_REASON_").lower().replace("_", "-"): v.number for name, v in names.items()}
    assert set(words) == set(FinishReason)
    for word, number in words.items():
        hypothesis = inference_pb2.Hypothesis(finish_reason=number)  # type: ignore[arg-type]
        response = inference_pb2.TranslateResponse(hypotheses=[hypothesis])
        assert wire.translation(response, ()).finish_reason == FinishReason(word)


@pytest.mark.parametrize("name", TABLE)
def test_a_keyword_reaches_its_field(name: str) -> None:
    value, expected, _ = TABLE[name]
    assert sent({name: value}).options == options(**{name: expected})


def test_all_keywords_travel_through_both_methods_of_both_clients(fake: FakeServer, invoke: Invoke) -> None:
    keywords = {name: value for name, (value, _, _) in TABLE.items()}
    expected = options(**{name: value for name, (_, value, _) in TABLE.items()})
    invoke(fake.address, "translate", "a", target="de", **keywords)
    invoke(fake.address, "translate_many", ["a", "b"], target="de", **keywords)
    assert [request.options for request in fake.requests] == [expected] * 3


def test_none_is_left_out() -> None:
    assert not sent(dict.fromkeys(TABLE)).HasField("options")
    assert sent({"beam_size": 4, "seed": None}).options == options(beam_size=4)


def test_an_unknown_keyword_is_named(invoke: Invoke) -> None:
    for method in ("translate", "translate_many"):
        with pytest.raises(TypeError, match="no such option of decoding: beam_with, patient"):
            invoke("localhost:1", method, "a", target="de", patient=1.0, beam_with=4, beam_size=4)


async def test_many_refuses_faulty_options_before_it_reads_a_text() -> None:
    texts = iter(["a"])
    with Client("localhost:1") as client, pytest.raises(InvalidArgument, match=r"options\.beam_size"):
        client.translate_many(texts, target="de", beam_size=-1)
    async with AsyncClient("localhost:1") as other:
        with pytest.raises(InvalidArgument, match=r"options\.beam_size"):
            other.translate_many(texts, target="de", beam_size=-1)
    assert list(texts) == ["a"]


def test_all_misfits_are_told_at_once() -> None:
    faulty = {
        "beam_size": True,
        "seed": 2**64,
        "patience": "1",
        "min_p": float("nan"),
        "top_p": 10**400,
        "early_stopping": 1,
        "length_normalisation": "long",
        "target_prefix": b"Der",
        "banned_words": "word",
        "allowed_words": 7,
        "stop": [";", 3, "\ud800"],
    }
    with pytest.raises(InvalidArgument) as caught:
        sent(faulty)
    fields = {v.field.removeprefix("options."): v.limit for v in caught.value.violations}
    assert fields == {
        "beam_size": "a whole number from 0 to 2^32 - 1",
        "seed": "a whole number from 0 to 2^64 - 1",
        "patience": "a finite number",
        "min_p": "a finite number",
        "top_p": "a finite number",
        "early_stopping": "True or False",
        "length_normalisation": "'plain' or 'wu'",
        "target_prefix": "a string",
        "banned_words": "a list of strings",
        "allowed_words": "a list of strings",
        "stop[1]": "a string",
        "stop[2]": "text without lone surrogates",
    }


def translate(fake: FakeServer, *args: str, stdin: str | None = None) -> Any:
    command = ["translate", "--server", fake.address, "--target", "de", *args]
    return CliRunner().invoke(app, command, input=stdin)


def test_every_command_line_option_reaches_its_field(fake: FakeServer) -> None:
    for _, _, arguments in TABLE.values():
        assert translate(fake, *arguments, "a").exit_code == 0
    assert [r.options for r in fake.requests] == [options(**{name: row[1]}) for name, row in TABLE.items()]
    assert translate(fake, "a").exit_code == 0
    assert not fake.requests[-1].HasField("options")


def test_the_help_lists_every_option(fake: FakeServer) -> None:
    shown = translate(fake, "--help").stdout
    assert all(f"  {arguments[0]} " in shown for _, _, arguments in TABLE.values())


def test_a_misfit_on_the_command_line_is_one_line(fake: FakeServer) -> None:
    result = translate(fake, "--length-normalisation", "long", "a", "b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "dragoman translate: options.length_normalisation = 'long': 'plain' or 'wu'\n"


def two(request: inference_pb2.TranslateRequest, _: Any) -> inference_pb2.TranslateResponse:
    """Two hypotheses for each text, the first of two lines."""
    texts = (f"{request.text}\n1", f"{request.text} 2")
    hypotheses = [
        inference_pb2.Hypothesis(text=text, score=-4.0 * i, rank_score=-0.5 * i) for i, text in enumerate(texts, 1)
    ]
    return inference_pb2.TranslateResponse(hypotheses=hypotheses)


@pytest.mark.parametrize("asked", [("--num-hypotheses", "2"), ("--alternatives", "2")])
def test_several_hypotheses_have_a_line_each(fake: FakeServer, asked: tuple[str, str]) -> None:
    fake.answer = two
    result = translate(fake, *asked, stdin="one\n\ntwo\n")
    assert result.stdout == "1\t-0.5000\tone 1\n1\t-1.0000\tone 2\n3\t-0.5000\ttwo 1\n3\t-1.0000\ttwo 2\n"


def test_one_hypothesis_has_the_plain_line(fake: FakeServer) -> None:
    fake.answer = two
    assert translate(fake, "--num-hypotheses", "1", "one").stdout == "one 1\n"


def test_json_holds_all_hypotheses_in_one_line(fake: FakeServer) -> None:
    fake.answer = two
    first, second = map(
        json.loads, translate(fake, "--num-hypotheses", "2", "--json", stdin="one\n\n").stdout.split("\n")[:2]
    )
    assert [(h["text"], h["rank_score"]) for h in first["hypotheses"]] == [("one\n1", -0.5), ("one 2", -1.0)]
    assert second is None


def test_every_option_is_documented_with_its_keyword_and_its_flag() -> None:
    text = (Path(__file__).parents[3] / "docs" / "decoding.md").read_text(encoding="utf-8")
    for name, (_, _, arguments) in TABLE.items():
        assert f"| `{name}` |" in text
        assert f"{name}=" in text
        assert f" {arguments[0]} " in text
