"""``dragoman evaluate`` of a language model: a table or JSON, and faults in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dragoman_export.commands import evaluate
from dragoman_model.language_model_evaluation import evaluate_texts
from tests.unit.model.small_text import TEXT, save_text_checkpoint

app = typer.Typer()
app.command()(evaluate)


def test_a_language_model_is_scored_on_texts(tmp_path: Path) -> None:
    trained = save_text_checkpoint(tmp_path / "model")
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    arguments = [str(tmp_path / "model"), "--data", str(file), "--last", "0.25"]
    expected = evaluate_texts(trained, [file], last=0.25)
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["nats_per_character"] == pytest.approx(expected.nats_per_character)
    assert (found["characters"], found["tokens"]) == (expected.characters, expected.score.tokens)
    assert found["stride"] == 8
    assert f"{expected.nats_per_character:.4f}" in CliRunner().invoke(app, arguments).stdout
    refused = CliRunner().invoke(app, [*arguments, "--last", "2"])
    assert refused.exit_code == 1
    assert "last = 2 must lie in (0, 1]" in refused.stderr
    (tmp_path / "model" / "config.json").write_text("{", encoding="utf-8")
    assert CliRunner().invoke(app, arguments).exit_code == 1
