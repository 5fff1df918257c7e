"""``dragoman evaluate`` of an encoder's checkpoint, as a table and as JSON, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dragoman_export.commands import evaluate
from dragoman_model.checkpoint import Provenance, save_model
from dragoman_model.encoder_tokenizer import train_encoder_tokenizer
from tests.unit.model.small_encoder import CLASSIFICATION, LABELLED, small_encoder, write_labelled


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(evaluate)
    return app


def save(folder: Path) -> Path:
    model = small_encoder(vocabulary=300, labels=["music", "time", "weather"], tags=[])
    tokenizer = train_encoder_tokenizer([text for _, text in LABELLED], 300)
    provenance = Provenance("tiny", "", [], [], CLASSIFICATION, 0, "", "", "")
    save_model(folder, model.state_dict(), model.config, tokenizer, provenance)
    return folder


def test_an_encoder_is_scored_on_its_labels(tmp_path: Path, command: typer.Typer) -> None:
    model, data = str(save(tmp_path / "model")), str(write_labelled(tmp_path / "texts.tsv"))
    found = CliRunner().invoke(command, [model, "--data", data, "--json"])
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)
    assert (scores["texts"], scores["scored"]) == (12, 12)
    assert 0.0 <= scores["macro_F1"] <= 1.0
    table = CliRunner().invoke(command, [model, "--data", data])
    assert f"{100 * scores['accuracy']:.2f}%" in table.stdout


def test_data_that_cannot_be_read_are_named(tmp_path: Path, command: typer.Typer) -> None:
    found = CliRunner().invoke(command, [str(save(tmp_path / "model")), "--data", str(tmp_path / "none.tsv")])
    assert found.exit_code == 1
    assert "none.tsv" in found.stderr
