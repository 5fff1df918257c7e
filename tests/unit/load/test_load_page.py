"""The page of load tests is filled from its JSON, and forecasts stand beside the open loops alone."""

from __future__ import annotations

import json
from pathlib import Path

from dragoman_server.planning.profile import Length, Linear, Memory, Profile, StepPoint
from tests.bench.results import FOLDER
from tests.load.forecast import FORETOLD, foretold
from tests.load.report import overview, section, write_page
from tests.load.sweep import PLANS, QUICK, publish
from tests.unit.client.load.points import point, result

CLOSED, OPEN = point(4, 200.0, 20.0, tokens=2000.0), point(20.0, 20.0, 30.0, "open")
PROFILE = Profile(
    model="deu-eng",
    family="translation",
    cores=2,
    lanes=2,
    max_rows=8,
    steps=(StepPoint(1, 0.001), StepPoint(8, 0.002)),
    encoding=Linear(0.001, 0.0001),
    call_alone=0.001,
    call_busy=0.0005,
    lengths=(Length(10, 10),),
    memory=Memory(0, 0, 0),
)


def test_open_loops_are_foretold() -> None:
    closed, opened = foretold(result(CLOSED, OPEN), PROFILE).points
    assert closed == CLOSED
    found = opened.forecast
    assert found is not None
    # Alone a request takes its encoding and ten steps of one row: 12 ms. Few come, so that most are alone.
    assert 12.0 <= found.p50_ms < 30.0
    assert found.p50_ms <= found.p95_ms <= found.p99_ms
    assert 0 < found.utilisation < 1


def test_an_overview_has_a_row_for_each_workload() -> None:
    head, row = overview([result(CLOSED, OPEN)])
    assert dict(zip(head, row, strict=True)) == {
        "workload": "mixed",
        "capacity, requests/s": "200.0",
        "tokens/s": "2,000",
        "knee, users": "4",
        "p99 there, ms": "20.0",
        "sustained, arrivals/s": "20.0",
        "p50 alone, ms": "5.0",
        "cost of 1M tokens": "0.05",
        "wrong answers": "0",
    }


def test_the_page_is_written_from_the_json_and_again(tmp_path: Path) -> None:
    publish([foretold(result(CLOSED, OPEN), PROFILE)], tmp_path, quick=True)
    page = (tmp_path / "load.md").read_text()
    assert page.startswith((FOLDER / "load.md").read_text().partition("<!-- results")[0])
    assert "a few seconds a point" in page
    assert "### mixed" in page
    assert "![mixed](load_mixed.png)" in page
    assert (tmp_path / "load_mixed.png").is_file()
    content = json.loads((tmp_path / "load.json").read_text())
    assert section({**content, "quick": False}) in page.replace(
        "Measured with `--quick`: a few seconds a point.\n\n", ""
    )
    write_page(tmp_path)
    assert (tmp_path / "load.md").read_text() == page


def test_what_is_asked_for_by_name_has_a_plan() -> None:
    assert set(QUICK) <= set(PLANS)
    assert set(FORETOLD) <= set(PLANS)
    seconds = sum((len(plan.users) + len(plan.shares)) * plan.window.end for plan in PLANS.values())
    assert seconds <= 9 * 60  # the whole is to take twelve minutes, with what comes before and after
    assert sum(6 * PLANS[name].quickly().window.end for name in QUICK) <= 60
