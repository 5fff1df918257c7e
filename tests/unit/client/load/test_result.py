"""A result in JSON, in tables, in words and as a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.load.measurement import Forecast, Measurement, Objectives
from dragoman.load.pictures import write_picture
from dragoman.load.report import findings, kinds, markdown, streams, table
from dragoman.load.result import from_json
from tests.unit.client.load.points import point, result, summary

CLOSED = (point(1, 100.0, 10.0, tokens=1000.0), point(4, 200.0, 20.0, tokens=2000.0))
STREAMED = replace(
    point(150.0, 149.0, 30.0, "open"),
    first_token=summary(3.0),
    token_time=summary(1.5),
    gap=summary(2.5),
    kinds={"short": summary(9.0), "stream": summary(11.0)},
    faults={"wrong-answer": 2},
    wrong=2,
    processors={"server": 1.5, "generator": 0.25},
    forecast=Forecast(throughput=148.0, utilisation=0.8, p50_ms=28.0, p95_ms=40.0, p99_ms=44.0),
)


def test_json_there_and_back() -> None:
    found = result(*CLOSED, STREAMED, point(500.0, 0.0, None, "open"))
    values = json.loads(json.dumps(found.as_json()))
    again = from_json(values)
    assert json.loads(json.dumps(again.as_json())) == values
    assert isinstance(again.points[2], Measurement)
    assert values["found"]["capacity"] == 200.0
    assert values["found"]["knee_users"] == 1
    assert values["found"]["sustained_rate"] == 500.0
    # 2,000 tokens a second for 0.36 an hour: 0.0001 a second, so 0.05 for a million.
    assert values["found"]["cost_per_million_tokens"][1] == pytest.approx(0.05)
    assert values["found"]["cost_per_million_tokens"][3] is None
    with pytest.raises(ValueError, match="format = 2"):
        from_json({**values, "format": 2})


def test_columns_without_content_are_left_out() -> None:
    head, *rows = table(result(*CLOSED))
    assert "foretold p99, ms" not in head
    assert "server's cores" not in head
    assert "late p99, ms" not in head
    assert [row[0] for row in rows] == ["1 user", "4 users"]
    head, *rows = table(result(*CLOSED, STREAMED))
    shown = dict(zip(head, rows[2], strict=True))
    assert shown["load"] == "150.0/s"
    assert shown["failed"] == "2 wrong-answer"
    assert (shown["foretold p50, ms"], shown["foretold use"]) == ("28.0", "80%")
    assert (shown["server's cores"], shown["generator's cores"]) == ("1.50", "0.25")


def test_streams_and_kinds_have_tables_of_their_own() -> None:
    assert streams(result(*CLOSED)) == []
    assert kinds(result(*CLOSED)) == []
    assert streams(result(*CLOSED, STREAMED))[1][:3] == ["150.0/s", "3.0", "3.0"]
    assert kinds(result(*CLOSED, STREAMED))[-1] == ["150.0/s", "9.0 / 9.0", "11.0 / 11.0"]


def test_findings_say_what_was_found_and_what_not() -> None:
    found = "\n".join(findings(result(*CLOSED, STREAMED)))
    assert "200.0 requests/s" in found
    assert "1 user" in found
    assert "99% are right, answer within 50 ms: 150.0 arrivals/s" in found
    assert "2 of 300." in found
    late = result(point(5.0, 5.0, mode="open", kept=0.1), objectives=Objectives(token_ms=3))
    assert "token within 3 ms: none of these" in "\n".join(findings(late))


def test_markdown_is_one_section() -> None:
    written = markdown(result(*CLOSED, STREAMED))
    assert written.startswith("## mixed\n\nWorkload mixed: sentences; 7 different requests, seed 1.")
    assert written.count("\n| load |") == 3
    assert markdown(result(*CLOSED), title="Else").startswith("## Else\n")


@pytest.mark.parametrize("points", [(*CLOSED, STREAMED), (point(1, 0.0, None),)])
def test_a_picture(points: tuple[Measurement, ...], tmp_path: Path) -> None:
    write_picture(result(*points), tmp_path / "load.png")
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
