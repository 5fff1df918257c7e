"""A small campaign over real processes: the faults that take no time, and about a hundred requests."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from tests.robustness.__main__ import PAGE, app
from tests.robustness.campaign import Campaign
from tests.robustness.faults.callers import CancelStorm
from tests.robustness.faults.every import EVERY
from tests.robustness.faults.hostile import MalformedMessage
from tests.robustness.faults.network import ResetInMidStream
from tests.robustness.report import line, summary, write

ROOT = Path(__file__).parents[2]


async def test_a_small_campaign_finds_nothing(tmp_path: Path) -> None:
    campaign = Campaign([CancelStorm(), ResetInMidStream(), MalformedMessage()], 120, 1, tmp_path / "histories")
    results = await campaign.run()
    assert [violation for result in results for violation in result.violations] == []
    assert [result.fault for result in results] == ["cancel-storm", "reset-in-mid-stream", "malformed-message"]
    assert all(result.injections > 0 for result in results)
    assert sum(result.requests for result in results) >= 120
    assert summary(results).endswith(" requests, 0 violations")
    write(results, 1, tmp_path / "robustness.md")
    page = (tmp_path / "robustness.md").read_text()
    assert all(f"| {result.fault} |" in page for result in results)
    assert all(result.fault in line(result) for result in results)


def test_every_fault_has_a_name_of_its_own_and_stands_in_the_documentation() -> None:
    names = [fault.name for fault in EVERY]
    assert len(names) == len(set(names)) >= 21
    page = (ROOT / "docs" / "robustness.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == set(names)


def test_the_last_campaign_is_kept_and_found_nothing() -> None:
    page = PAGE.read_text()
    assert re.search(r"\d+ kinds of fault, [\d,]+ injections, [\d,]+ requests, 0 violations", page)


def test_the_command_lists_the_faults_and_refuses_others() -> None:
    listed = CliRunner().invoke(app, ["--list"])
    assert listed.exit_code == 0
    assert all(fault.name in listed.stdout for fault in EVERY)
    refused = CliRunner().invoke(app, ["--faults", "nobody"])
    assert refused.exit_code == 2
    assert "nobody" in refused.stderr
