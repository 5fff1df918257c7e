"""The second promise, on the model that ships: the same answer under any load, to the bit."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from dragoman_server.bench_commands import independence
from dragoman_server.independence.cases import KINDS
from dragoman_server.independence.sentences import own_sentences

bench = typer.Typer()
bench.command()(independence)

BUNDLE = Path(__file__).parents[2] / "models/deu-eng/1"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_request_gets_the_same_bits_alone_and_among_others(tmp_path: Path) -> None:
    data = tmp_path / "sentences.txt"
    short = [sentence.text for sentence in own_sentences(400, seed=1) if len(sentence.text.split()) <= 14]
    data.write_text("\n".join(short), encoding="utf-8")
    result = CliRunner().invoke(bench, [str(BUNDLE), "--data", str(data), "--sentences", "60", "--seed", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["holds"], report["sentences"], list(report["graphs"])) == (True, 60, ["int8"])
    found = report["results"]
    assert {(line["kind"], line["lanes"]) for line in found} == {
        ("encoder", 1),
        *((kind, lanes) for kind in KINDS for lanes in (1, 2)),
    }
    for line in found:
        assert (line["different_tokens"], line["different_scores"], line["largest_difference"]) == (0, 0, 0)
        assert line["scores"] > line["tokens"] > 500
        assert line["kind"] == "encoder" or line["weights"] > 1000
        assert (line["different_weights"], line["taken_back"]) == (0, 0)
    assert sum(line["watched"] for line in found) > 50
    # Nothing would be shown by requests that were alone again.
    assert max(line["mean_batch"] for line in found if line["kind"] == "greedy") > 4
    for company in report["company"]:
        assert company["outcomes"]["Cancelled"] > 0
