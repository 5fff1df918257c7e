"""A tiny language model, exported, served, verified: what its bundle says is what PyTorch says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import numpy_helper
from rich.console import Console
from typer.testing import CliRunner

from dragoman_export import commands
from dragoman_export.certificate import CertificateError
from dragoman_export.checks import Verification
from dragoman_export.export_job import ExportError, ExportOptions, open_job, trained_as
from dragoman_export.exporting import export_bundle
from dragoman_export.exporting_generation import export_generation
from dragoman_export.language_graph import export_language_graph
from dragoman_export.language_measuring import NATS
from dragoman_export.language_probes import read_language_record
from dragoman_export.language_serving import ServedLanguageModel
from dragoman_export.verification import verify
from dragoman_model.generation import generate
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_evaluation import evaluate_texts
from dragoman_server.bundle import load_bundle
from dragoman_server.inspection import checked_manifest
from dragoman_server.progress import Stages
from tests.unit.export import tiny_language_model
from tests.unit.server import tiny


def silent() -> Stages:
    return Stages(Console(quiet=True))


def options(root: Path, output: Path, **changes: object) -> ExportOptions:
    data = [root / "text.txt"]
    chosen = {"precisions": ("int8", "fp32", "fp16")} | changes
    return ExportOptions(root / "checkpoint", output, data, data, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint/, text.txt and the bundle exported from them, in all precisions."""
    root = tmp_path_factory.mktemp("made")
    tiny_language_model.save_checkpoint(root / "checkpoint")
    tiny_language_model.write_text(root / "text.txt")
    export_bundle(options(root, root / "bundle"), silent())
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))


def failures(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.good]


def test_the_certificate_holds_what_was_measured(made: Path) -> None:
    manifest = checked_manifest(made / "bundle")
    measured = {m.precision: m for m in manifest.certificate.measurements}
    assert set(measured) == {"pytorch", "fp32", "int8", "fp16"}
    assert measured["fp32"].max_logit_difference < 1e-4
    assert measured["fp32"].identical_greedy == 1.0
    assert measured["fp32"].parity_sentences > 5
    assert 0 < measured["int8"].max_logit_difference < 1
    assert 0 < measured["fp16"].max_logit_difference < 0.05
    with open_job(options(made, made / "other"), silent()) as job:
        trained = trained_as(job.trained, LanguageModel)
    nats = evaluate_texts(trained, [made / "text.txt"], last=0.4, stride=20).nats_per_character
    for measurement in measured.values():
        (metric,) = measurement.metrics
        assert metric.name == NATS
        # The window is 40 of the model's 48 tokens: not the same score, but near.
        assert metric.pytorch == pytest.approx(nats, rel=0.02)
        assert metric.value == pytest.approx(metric.pytorch, abs=1e-5 if measurement.precision == "fp32" else 0.01)
    assert manifest.certificate.test_set.licence == "CC0-1.0"
    assert (manifest.limits.source_tokens, manifest.limits.target_tokens) == (0, tiny_language_model.WINDOW)
    assert not manifest.languages
    assert len(read_language_record(made / "bundle").probes) == 20


def test_paragraphs_are_exported_and_verified_as_documents(made: Path, tmp_path: Path) -> None:
    tiny_language_model.save_checkpoint(tmp_path / "checkpoint", documents="paragraphs")
    shutil.copy(made / "text.txt", tmp_path)
    result = export_bundle(options(tmp_path, tmp_path / "bundle", precisions=("int8",)), silent())
    assert set(result.manifest.precisions) == {"int8"}
    verification = verify(tmp_path / "bundle", [tmp_path / "text.txt"], stages=silent())
    assert verification.faults == failures(verification) == []


def test_what_is_served_goes_on_as_pytorch_does(made: Path) -> None:
    loaded = load_bundle(made / "bundle", "fp32")
    with open_job(options(made, made / "other"), silent()) as job:
        model = trained_as(job.trained, LanguageModel).model
    random = np.random.default_rng(3)
    prompts = [[2, *random.integers(4, 250, size).tolist()] for size in (0, 1, 5, 12, 25)]
    with ServedLanguageModel(loaded.decoder, loaded.manifest, lanes=1, max_rows=4) as served:
        assert served.generate(prompts, 12) == generate(model, prompts, 12)


def test_no_text_of_the_test_set_and_no_machine_path_is_in_the_bundle(made: Path) -> None:
    for path in (path for path in (made / "bundle").rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert str(made).encode() not in content
        assert b"site-packages" not in content
        assert not [text for text in tiny_language_model.PARAGRAPHS if text.encode() in content]


def test_everything_is_measured_again_with_data_and_checkpoint(made: Path) -> None:
    verification = verify(made / "bundle", [made / "text.txt"], made / "checkpoint", stages=silent())
    assert verification.faults == []
    assert failures(verification) == []
    names = [check.name for check in verification.checks]
    for expected in (f"int8: {NATS}", f"pytorch: {NATS}", "fp32: largest logit difference", "fp32: greedy cont"):
        assert any(name.startswith(expected) for name in names), expected


def test_other_data_or_another_checkpoint_is_told(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Something else altogether, and long enough to be cut.\n" * 9, "utf-8")
    tiny_language_model.save_checkpoint(tmp_path / "checkpoint", seed=9)
    verification = verify(made / "bundle", [tmp_path / "other.txt"], tmp_path / "checkpoint", stages=silent())
    assert {"test set", "checkpoint", "PyTorch: probes, logits"} <= set(failures(verification))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_weights_are_found_though_every_hash_is_right(bundle: Path, precision: str) -> None:
    path = bundle / precision / "decoder.onnx"
    model = onnx.load_model_from_string(path.read_bytes())
    norm = next(tensor for tensor in model.graph.initializer if tensor.name == "norm.weight")
    norm.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(norm) * 1.5, norm.name))
    path.write_bytes(model.SerializeToString())
    manifest = tiny.read_manifest(bundle)
    del manifest["files"]
    tiny.write_manifest(bundle, manifest)
    verification = verify(bundle, stages=silent())
    assert verification.faults == []
    failed = failures(verification)
    assert f"{precision}: graphs that were measured" in failed
    assert f"{precision}: probes, largest logit difference" in failed


def test_graphs_that_miss_their_limits_are_not_written(made: Path, tmp_path: Path) -> None:
    def of_another_model(model: LanguageModel, folder: Path) -> Path:
        other = tiny_language_model.make_model(seed=5, vocabulary=model.config.vocabulary)
        return export_language_graph(other, folder)

    with open_job(options(made, tmp_path / "bundle"), silent()) as job, pytest.raises(CertificateError) as caught:
        export_generation(job, trained_as(job.trained, LanguageModel), exporter=of_another_model)
    for part in ("fp32: largest logit difference", "greedy outputs"):
        assert any(part in miss for miss in caught.value.misses), part
    assert list(tmp_path.iterdir()) == []


def test_all_that_a_decoder_has_not_is_refused_at_once(made: Path, tmp_path: Path) -> None:
    asked = options(made, tmp_path / "b", columns=("en", "de"), source_tokens=9, target_tokens=999)
    with pytest.raises(ExportError) as caught:
        export_bundle(asked, silent())
    for part in ("target_tokens = 999: 4 to the model's max_length, 48", "source_tokens = 9", "columns = en,de"):
        assert part in str(caught.value)


def test_verify_on_the_command_line(made: Path, bundle: Path) -> None:
    app = typer.Typer()
    for command in (commands.export, commands.verify):
        app.command(command.__name__)(command)
    runner = CliRunner()
    verified = runner.invoke(app, ["verify", str(bundle), "--data", str(made / "text.txt")])
    assert verified.exit_code == 0, verified.output
    assert "FAIL" not in verified.stdout
    (bundle / "parity.json").write_text(json.dumps({"formatVersion": 1}), "utf-8")
    manifest = tiny.read_manifest(bundle)
    del manifest["files"]
    tiny.write_manifest(bundle, manifest)
    refused = runner.invoke(app, ["verify", str(bundle)])
    assert refused.exit_code == 1
    assert "parity.json" in refused.stderr
