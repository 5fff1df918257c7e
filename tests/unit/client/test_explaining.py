"""explain, with both clients, and dragoman explain."""

from __future__ import annotations

import json
import re
import struct
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import dragoman
from dragoman.cli.attention_page import all_words, page, script_safe, shown_tokens
from dragoman.cli.main import GROUP, load
from dragoman.explaining_values import AttentionMaps
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer, Invoke

COMMAND = load(EntryPoint("explain", "dragoman.cli.explain:explain", GROUP))


def run(fake: FakeServer, *args: str) -> Any:
    return CliRunner().invoke(COMMAND, ["--server", fake.address, *args])


def maps(*weights: float, shape: tuple[int, int, int, int], layers: tuple[int, ...] = ()) -> AttentionMaps:
    return AttentionMaps(layers, (), shape, struct.pack(f"<{len(weights)}f", *weights))


def test_explain(fake: FakeServer, invoke: Invoke) -> None:
    found = invoke(
        fake.address,
        "explain",
        "ja du",
        translation="yes you",
        target="en",
        source="de",
        model="small",
        layers=[1, 0],
        heads=(2,),
        aggregation="mean-heads",
        priority=3,
    )
    assert fake.asked == [
        inference_pb2.ExplainRequest(
            text="ja du",
            target="yes you",
            target_language="en",
            source_language="de",
            model="small",
            layers=[1, 0],
            heads=[2],
            aggregation=inference_pb2.AGGREGATION_MEAN_HEADS,
            priority=3,
        )
    ]
    assert found.source_tokens[0] == dragoman.ExplainedToken("<2en>", 0, 0, special=True)
    assert found.cross.shape == (1, 2, 3, 4)
    assert found.cross[0, 1, 2] == [0.0, 0.0, 0.25, 0.75]
    assert (found.encoder_self, list(found.maps)) == (None, ["decoder_self", "cross"])
    assert found.aligned_words() == (("ja", "yes", 0.75), ("du", "you", 0.5))
    assert (found.target_text, found.model, found.receipt.lane) == ("yes you", "small", 1)


def test_what_does_not_fit_the_fields_is_told_at_once(fake: FakeServer, invoke: Invoke) -> None:
    with pytest.raises(dragoman.InvalidArgument) as caught:
        invoke(fake.address, "explain", 1, layers=["a"], heads="0", aggregation="sum", max_new_tokens=-1, priority="x")
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"text", "layers[0]", "heads", "aggregation", "max_new_tokens", "priority"}
    assert fake.asked == []


def test_weights_that_do_not_fill_their_shape_are_the_servers_fault(fake: FakeServer, invoke: Invoke) -> None:
    for text in ("short", "flat"):
        with pytest.raises(dragoman.InternalError):
            invoke(fake.address, "explain", text)


def test_maps_are_indexed_like_nested_lists() -> None:
    found = maps(*range(24), shape=(2, 1, 3, 4), layers=(0, 5))
    nested = found.tolist()
    assert len(found) == 2
    assert [found[layer] for layer in range(2)] == nested
    assert list(found) == nested
    for index in ((1,), (1, 0), (1, 0, 2), (1, 0, 2, 3), (-1, 0, -1, -4)):
        expected: Any = nested
        for place in index:
            expected = expected[place]
        assert found[index] == expected
    for wrong in ((2,), (0, 1), (0, 0, 0, 0, 0), (-3,)):
        with pytest.raises(IndexError):
            found[wrong]
    assert found.weights.tolist() == list(range(24))
    assert found.weights.readonly
    assert found == maps(*range(24), shape=(2, 1, 3, 4), layers=(0, 5))
    assert found != maps(*range(24), shape=(2, 1, 3, 4))
    assert maps(shape=(0, 1, 3, 4)).tolist() == []


class Script(HTMLParser):
    """The page's scripts, by type, and everything that names an address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.addresses: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in {"src", "href", "data", "action", "srcset"}]
        if tag == "script":
            self._inside = dict(attrs).get("type") or "text/javascript"
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}

    def handle_endtag(self, tag: str) -> None:
        self._inside = None if tag == "script" else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data


@pytest.mark.parametrize("text", ["ja du", "</script><script>alert(1)</script>", "a\u2028b <!-- & \" ' \\", "👋🏽 <b>"])
def test_the_page_holds_the_text_whatever_it_says(fake: FakeServer, text: str) -> None:
    with dragoman.Client(fake.address) as client:
        found = client.explain(text, target="en")
    parsed = Script(page(found))
    assert set(parsed.scripts) == {"application/json", "text/javascript"}
    data = json.loads(parsed.scripts["application/json"])
    assert data["text"] == text
    assert not set("<>&\u2028") & set(parsed.scripts["application/json"])
    assert "__EXPLANATION__" not in page(found)


def test_the_page_asks_for_nothing_from_anywhere(fake: FakeServer) -> None:
    with dragoman.Client(fake.address) as client:
        text = page(client.explain("ja du", target="en"))
    parsed = Script(text)
    assert parsed.addresses == []
    outside = re.findall(r"[a-z]+://[^\s\"'`)]+|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", text)
    assert outside == ["http://www.w3.org/2000/svg"]  # a name, which nobody asks for
    assert "default-src 'none'" in text


def test_the_pages_words_are_those_that_are_linked_and_what_stands_between() -> None:
    text = "one two, three four"
    places = all_words(text, {(4, 7), (7, 8)})
    assert [text[begin:end] for begin, end in places] == ["one", "two", ",", "three", "four"]


def test_tokens_are_shown_as_their_part_of_the_text_or_as_the_vocabulary_has_them() -> None:
    tokens = [
        dragoman.ExplainedToken("<s>", 0, 0, special=True),
        dragoman.ExplainedToken("Ġja", 0, 2, special=False),
        dragoman.ExplainedToken("Ã", 3, 4, special=False),
        dragoman.ExplainedToken("¤", 3, 4, special=False),
    ]
    assert shown_tokens(tokens, "ja ä") == ["<s>", "ja", "Ã", "¤"]


def test_script_safe_is_json() -> None:
    value = {"a": ["</script>", "<!--", "&amp;", "\u2028\u2029", "ä"]}
    assert json.loads(script_safe(value)) == value


def test_the_terminal_shows_the_alignment(fake: FakeServer) -> None:
    result = run(fake, "ja du", "yes you", "--target", "en")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["yes", "you"]
    assert ["ja", "yes", "0.75"] in [line[:3] for line in lines]
    assert fake.asked[0].aggregation == inference_pb2.AGGREGATION_MEAN  # no more than is shown


def test_the_terminal_shows_what_tokens_look_at_where_nothing_is_aligned(fake: FakeServer) -> None:
    result = run(fake, "self", "--model", "small", "--layers", "0")
    assert result.exit_code == 0, result.output
    assert "looks at" in result.stdout
    assert fake.asked[0].aggregation == inference_pb2.AGGREGATION_NONE


def test_json_and_the_page_to_stdout(fake: FakeServer) -> None:
    told = json.loads(run(fake, "ja du", "yes you", "--target", "en", "--json").stdout)
    assert told["cross"]["weights"][0][1][2] == [0.0, 0.0, 0.25, 0.75]
    assert told["alignment"][0]["target_end"] == 3
    assert run(fake, "ja du", "--target", "en", "--output", "-").stdout.startswith("<!DOCTYPE html>")


def test_a_page_and_a_picture_are_written(fake: FakeServer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, begins in (("a.html", b"<!DOCTYPE html>"), ("a.png", b"\x89PNG\r\n\x1a\n")):
        result = run(fake, "cost $5 and $6", "--target", "en", "--output", str(tmp_path / name))
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x", "--output", "a.gif"], ".html or .png"),
        (["x", "--layers", "one"], "--layers"),
        (["x", "--output", "/nowhere/at/all/a.html"], "can be written"),
        (["bad"], "no such layer"),
    ],
)
def test_errors_are_told_on_stderr(fake: FakeServer, arguments: list[str], told: str) -> None:
    result = run(fake, *arguments)
    assert result.exit_code == 1
    assert told in result.stderr
