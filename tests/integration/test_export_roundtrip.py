from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from onnx import numpy_helper
from rich.console import Console
from typer.testing import CliRunner

from dragoman_export import commands
from dragoman_export.bundle_writer import BundleExistsError
from dragoman_export.certificate import CertificateError
from dragoman_export.checks import Verification
from dragoman_export.export_job import ExportOptions, open_job
from dragoman_export.exporting import export_bundle
from dragoman_export.exporting_translation import export_translation
from dragoman_export.graphs import GraphPaths, export_graphs
from dragoman_export.probes import read_record
from dragoman_export.verification import verify
from dragoman_model.transformer import Transformer
from dragoman_server.inspection import checked_manifest
from dragoman_server.progress import Stages
from tests.unit.export import tiny_model


def silent() -> Stages:
    return Stages(Console(quiet=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint/, pairs.tsv and the bundle exported from them, in all precisions."""
    root = tmp_path_factory.mktemp("made")
    tiny_model.save_checkpoint(root / "checkpoint")
    tiny_model.write_pairs(root / "pairs.tsv")
    export_bundle(options(root, root / "bundle"), silent())
    return root


def options(root: Path, output: Path, *, overwrite: bool = False) -> ExportOptions:
    data = [root / "pairs.tsv"]
    precisions = ("int8", "fp32", "fp16")
    return ExportOptions(root / "checkpoint", output, data, data, precisions=precisions, overwrite=overwrite)


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))


def relist(bundle: Path) -> None:
    """Make the listed sizes and hashes those of the files that are there."""
    manifest = read(bundle)
    for file in manifest["files"]:
        content = (bundle / file["path"]).read_bytes()
        file |= {"bytes": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    write(bundle, manifest)


def read(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return manifest


def write(bundle: Path, manifest: dict[str, Any]) -> None:
    (bundle / "bundle.json").write_text(json.dumps(manifest), "utf-8")


def failures(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.good]


def test_the_certificate_holds_what_was_measured(made: Path) -> None:
    manifest = checked_manifest(made / "bundle")
    measured = {m.precision: m for m in manifest.certificate.measurements}
    assert set(measured) == {"pytorch", "fp32", "int8", "fp16"}
    assert measured["fp32"].max_logit_difference < 1e-4
    assert measured["fp32"].identical_greedy == 1.0
    assert measured["fp32"].parity_sentences == 2 * len(tiny_model.PAIRS)
    assert {q.decoding for q in measured["pytorch"].quality} == {"greedy", "beam 4"}
    assert {q.direction for q in measured["int8"].quality} == {"en-de", "de-en"}
    assert all("version" in q.signature for m in measured.values() for q in m.quality)
    assert 0 < measured["int8"].max_logit_difference < 1
    assert 0 < measured["fp16"].max_logit_difference < 0.05
    attention = manifest.certificate.attention
    assert manifest.explain == "explain.onnx"
    assert 0 < attention.max_weight_difference < 1e-5
    assert attention.max_padding_weight == 0
    assert attention.sentences == 2 * len(tiny_model.PAIRS)
    digest = hashlib.sha256((made / "pairs.tsv").read_bytes()).hexdigest()
    assert manifest.certificate.test_set.sha256 == digest
    assert manifest.certificate.test_set.licence == "CC0-1.0"
    assert (manifest.limits.source_tokens, manifest.limits.target_tokens) == (40, 40)
    assert len(read_record(made / "bundle").probes) == 40


def test_no_sentence_of_the_test_set_and_no_machine_path_is_in_the_bundle(made: Path) -> None:
    for path in (path for path in (made / "bundle").rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert str(made).encode() not in content
        assert b"site-packages" not in content
        if path.name != "tokenizer.json":
            assert not [pair for pair in tiny_model.PAIRS if pair[0].encode() in content or pair[1].encode() in content]


def test_an_untouched_bundle_verifies(made: Path) -> None:
    verification = verify(made / "bundle", stages=silent())
    assert verification.faults == []
    assert failures(verification) == []
    assert {check.name.split(":")[0] for check in verification.checks} >= {"int8", "fp32", "integrity"}


def test_everything_is_measured_again_with_data_and_checkpoint(made: Path) -> None:
    verification = verify(made / "bundle", [made / "pairs.tsv"], made / "checkpoint", stages=silent())
    assert verification.good, failures(verification)
    names = [check.name for check in verification.checks]
    for expected in ("int8: en-de greedy BLEU", "pytorch: de-en beam 4 chrF", "fp32: largest logit difference"):
        assert any(name.startswith(expected) for name in names), expected


def test_parity_sentences_that_the_test_set_lacks_are_told(made: Path, bundle: Path) -> None:
    record = read_record(bundle)
    strange = record.model_copy(update={"sentences": [(999, "en-de", "0" * 16), *record.sentences]})
    (bundle / "parity.json").write_text(strange.model_dump_json(), "utf-8")
    relist(bundle)
    assert failures(verify(bundle, [made / "pairs.tsv"], stages=silent())) == ["parity sentences"]


def test_other_data_or_another_checkpoint_is_told(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text("Good evening.\tGuten Abend.\n", "utf-8")
    tiny_model.save_checkpoint(tmp_path / "checkpoint", seed=9)
    verification = verify(made / "bundle", [other], tmp_path / "checkpoint", stages=silent())
    assert {"test set", "checkpoint", "PyTorch: probes, logits"} <= set(failures(verification))
    assert not any("BLEU" in check.name for check in verification.checks)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json", "generation.json", "parity.json", "int8/encoder.onnx", "int8/decoder.onnx",
        "fp32/encoder.onnx", "fp32/decoder.onnx", "explain.onnx",
    ],
)  # fmt: skip
def test_a_flipped_byte_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    verification = verify(bundle, stages=silent())
    assert not verification.good
    assert any(name in fault and "SHA-256" in fault for fault in verification.faults)


def test_all_faults_are_listed_at_once(bundle: Path) -> None:
    (bundle / "fp32/encoder.onnx").unlink()
    manifest = read(bundle) | {"formatVersion": 99}
    manifest["precisions"]["int8"]["decoder"] = "../../elsewhere/decoder.onnx"
    manifest["files"].append({"path": "../../elsewhere/decoder.onnx", "bytes": "3", "sha256": "0" * 64})
    write(bundle, manifest)
    faults = "\n".join(verify(bundle, stages=silent()).faults)
    for part in ("format_version = 99", "fp32/encoder.onnx': missing", "elsewhere/decoder.onnx': leaves the folder"):
        assert part in faults


def test_a_flipped_byte_in_the_manifest_is_found_or_changes_nothing_that_is_checked(bundle: Path) -> None:
    manifest = read(bundle)
    manifest["dimensions"]["dModel"] += 1
    write(bundle, manifest)
    assert verify(bundle, stages=silent()).faults


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_weights_are_found_though_every_hash_is_right(bundle: Path, precision: str) -> None:
    path = bundle / precision / "decoder.onnx"
    model = onnx.load_model_from_string(path.read_bytes())
    norm = next(tensor for tensor in model.graph.initializer if tensor.name == "norm.weight")
    norm.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(norm) * 1.5, norm.name))
    path.write_bytes(model.SerializeToString())
    relist(bundle)
    verification = verify(bundle, stages=silent())
    assert verification.faults == []
    failed = failures(verification)
    assert f"{precision}: graphs that were measured" in failed
    assert f"{precision}: probes, largest logit difference" in failed


def test_other_attention_is_found_though_every_hash_is_right(made: Path, bundle: Path) -> None:
    path = bundle / "explain.onnx"
    model = onnx.load_model_from_string(path.read_bytes())
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("key.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    path.write_bytes(model.SerializeToString())
    relist(bundle)
    assert failures(verify(bundle, stages=silent())) == ["attention: graph that was measured"]
    verification = verify(bundle, checkpoint=made / "checkpoint", stages=silent())
    assert [check for check in verification.checks if not check.good and "from PyTorch" in check.found]


def test_graphs_that_miss_their_limits_are_not_written(made: Path, tmp_path: Path) -> None:
    def of_another_model(_: Transformer, folder: Path) -> GraphPaths:
        vocabulary = checked_manifest(made / "bundle").dimensions.vocabulary
        return export_graphs(tiny_model.make_model(seed=5, vocabulary=vocabulary), folder)

    with open_job(options(made, tmp_path / "bundle"), silent()) as job, pytest.raises(CertificateError) as caught:
        export_translation(job, exporter=of_another_model)
    assert any("largest logit difference" in miss for miss in caught.value.misses)
    assert any("greedy outputs" in miss for miss in caught.value.misses)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_on_demand_and_nothing_else_ever_is(made: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleExistsError, match="--force"):
        export_bundle(options(made, bundle), silent())
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "dear.txt").write_text("dear")
    with pytest.raises(BundleExistsError, match="no bundle"):
        export_bundle(options(made, folder, overwrite=True), silent())
    assert (folder / "dear.txt").read_text() == "dear"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    for command in (commands.export, commands.verify, commands.evaluate):
        app.command(command.__name__)(command)
    return app


def test_verify_and_evaluate_on_the_command_line(app: typer.Typer, made: Path, bundle: Path) -> None:
    runner = CliRunner()
    verified = runner.invoke(app, ["verify", str(bundle)])
    assert verified.exit_code == 0
    assert "FAIL" not in verified.stdout
    evaluated = runner.invoke(app, ["evaluate", str(bundle), "--data", str(made / "pairs.tsv"), "--json"])
    assert evaluated.exit_code == 0
    results = [json.loads(line) for line in evaluated.stdout.splitlines()]
    certified = {
        quality.direction: quality.bleu
        for measured in checked_manifest(bundle).certificate.measurements
        if measured.precision == "int8"
        for quality in measured.quality
    }
    assert {r["direction"]: pytest.approx(r["bleu"]) for r in results} == certified
    (bundle / "generation.json").write_text("{}")
    refused = runner.invoke(app, ["verify", str(bundle)])
    assert refused.exit_code == 1
    assert "generation.json" in refused.stderr
    assert refused.stdout == ""


def test_errors_are_one_message_and_exit_code_1(app: typer.Typer, made: Path, tmp_path: Path) -> None:
    data = str(made / "pairs.tsv")
    runner = CliRunner()
    for arguments, message in (
        (
            ["export", str(tmp_path), "--output", str(tmp_path / "b"), "--data", data, "--calibration", data],
            "checkpoint",
        ),
        (["evaluate", str(made / "checkpoint"), "--data", str(tmp_path / "none.tsv")], "none.tsv"),
        (["evaluate", str(made / "checkpoint"), "--data", data, "--columns", "en"], "columns"),
        (["evaluate", str(made / "bundle"), "--data", data, "--beam-size", "4"], "beam_size"),
        (["evaluate", str(made / "checkpoint"), "--data", data, "--direction", "en-fr"], "en-fr"),
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 1, arguments
        assert result.stdout == ""
        assert message in result.stderr
