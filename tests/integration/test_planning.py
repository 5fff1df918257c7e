"""A model is measured on this machine, and planned for by what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from dragoman_server.bundle import load_bundle
from dragoman_server.planning.commands import plan
from dragoman_server.planning.measuring import measure
from dragoman_server.planning.pilots import RUNS
from dragoman_server.planning.profile import Profile
from dragoman_server.settings import Settings

MODELS = Path(__file__).parents[2] / "models"
QUICK = 0.05
"""Seconds of each number of rows: the figures mean little, but there are all of them."""


def run(*arguments: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(plan)
    result = CliRunner().invoke(app, [*arguments, "--models", str(MODELS)])
    return result.exit_code, result.stdout, result.stderr


def test_a_translating_model_is_measured_and_planned_for(tmp_path: Path) -> None:
    settings = Settings(models=MODELS, lanes=2, max_rows=4)
    profile = measure(load_bundle(MODELS / "deu-eng" / "1", "int8"), settings, seconds=QUICK)
    assert (profile.model, profile.family, profile.lanes, profile.max_rows) == ("deu-eng", "translation", 2, 4)
    assert [point.rows for point in profile.steps] == [1, 2, 4]
    assert all(point.seconds > 0 for point in profile.steps)
    assert profile.encoding.at(20) > 0
    assert profile.caller > 0
    assert 1 <= len(profile.pilots) <= RUNS
    assert profile.memory.row > 0
    assert len(profile.lengths) > 10
    path = tmp_path / "profile.json"
    profile.write(path)

    texts = tmp_path / "texts.txt"
    texts.write_text("Where is the station?\nYes.\n", encoding="utf-8")
    code, shown, _ = run("--rate", "5", "--p99", "60000", "--profile", str(path), "--json", "--lengths", str(texts))
    assert code == 0
    found = json.loads(shown)
    assert found["replicas"] >= 1
    assert found["prediction"]["p99_ms"] <= 60_000
    assert found["mean_source_tokens"] < sum(length.source for length in profile.lengths) / len(profile.lengths)

    code, shown, _ = run("--rate", "5", "--p99", "60000", "--profile", str(path), "--lengths", "12")
    assert code == 0
    assert "of 12" in shown
    assert "headroom" in shown

    code, _, said = run("--rate", "5", "--p99", "0.001", "--profile", str(path))
    assert code == 1
    assert "ms at the least" in said

    code, _, said = run("--rate", "5", "--p99", "50", "--profile", str(path), "--model", "intents")
    assert code == 2
    assert "a profile of intents" in said


def test_the_other_families_are_measured(tmp_path: Path) -> None:
    settings = Settings(models=MODELS, lanes=1, max_rows=2)
    for name, family in (("shakespeare", "generation"), ("intents", "understanding")):
        profile = measure(load_bundle(MODELS / name / "1", "int8"), settings, seconds=QUICK)
        assert profile.family == family
        assert bool(profile.steps) == (family == "generation")
        assert profile.crowding == 1.0
        profile.write(tmp_path / name)
        assert Profile.read(tmp_path / name) == profile


def test_what_is_asked_wrongly_is_said(tmp_path: Path) -> None:
    code, _, said = run("--rate", "-5", "--p99", "0")
    assert code == 2
    assert "rate = -5.0" in said
    assert "p99 = 0.0" in said
    code, _, said = run("--rate", "5", "--p99", "50", "--lengths", str(tmp_path / "none.txt"))
    assert code == 2
    assert "a number, or a file of UTF-8 lines" in said
    code, _, said = run("--rate", "5", "--p99", "50", "--model", "nobody")
    assert code == 2
    assert "model = nobody: one of deu-eng" in said
