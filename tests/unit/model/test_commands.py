"""``dragoman train`` as a command: its output, and its faults in one line."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from dragoman_model.checkpoint import load_model
from dragoman_model.commands import train
from tests.unit.model.small import write_recipe

app = typer.Typer()
app.command()(train)


def test_trains_and_refuses_to_start_over_an_earlier_run(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path, max_updates=4, cooldown=1), tmp_path / "run"
    arguments = [str(recipe), "--output", str(folder), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "model")
    assert load_model(folder / "model").provenance.updates == 4
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--resume goes on" in again.stderr
    assert CliRunner().invoke(app, [*arguments, "--resume"]).exit_code == 0


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, learning_rate=1e30, warmup=0, cooldown=0, clip_norm=1e30, validate_every=2)
    done = CliRunner().invoke(app, [str(recipe), "--output", str(tmp_path / "run"), "--device", "cpu"])
    assert done.exit_code == 1
    assert "the validation loss is nan at update 2" in done.stderr


def test_faults_are_told_and_end_with_1(tmp_path: Path) -> None:
    faulty = CliRunner().invoke(app, [str(write_recipe(tmp_path, warmup=-1)), "--output", str(tmp_path / "a")])
    assert faulty.exit_code == 1
    assert "training.warmup" in faulty.stderr
    recipe = write_recipe(tmp_path)
    (tmp_path / "train.tsv").write_text("no tab here\n", encoding="utf-8")
    useless = CliRunner().invoke(app, [str(recipe), "--output", str(tmp_path / "b"), "--device", "cpu"])
    assert useless.exit_code == 1
    assert "no usable line" in useless.stderr
