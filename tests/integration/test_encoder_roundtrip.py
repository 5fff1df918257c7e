"""An encoder from checkpoint to bundle and back: exported, certified, verified, and run by the runtime that serves."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from dragoman_export.bundle_writer import sha256
from dragoman_export.certificate import CertificateError
from dragoman_export.checks import Verification
from dragoman_export.encoder_measured import MASK_ACCURACY
from dragoman_export.encoder_passes import by_pytorch, largest_difference, run_all
from dragoman_export.export_job import ExportError, ExportOptions, open_job
from dragoman_export.exporting import export_bundle
from dragoman_export.exporting_encoder import export_encoder
from dragoman_export.label_evaluation import evaluate_label_files
from dragoman_export.text_encoder_graph import export_text_encoder
from dragoman_export.verification import verify
from dragoman_model.checkpoint import CheckpointError, load_model
from dragoman_model.data import DataError
from dragoman_model.text_encoder import TextEncoder
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import load_bundle
from dragoman_server.independence.passes import EVERY_LENGTH
from dragoman_server.independence.running import Options, run
from dragoman_server.inspection import checked_manifest, rendered
from dragoman_server.pass_runtime import EncoderInput, OnnxPassRuntime
from dragoman_server.progress import Stages
from dragoman_server.settings import Settings
from tests.contract.running import serving
from tests.unit.export import tiny_text_encoder


def silent() -> Stages:
    return Stages(Console(quiet=True))


def options(root: Path, output: Path, **choices: Any) -> ExportOptions:
    data = [root / "intents.json"]
    return ExportOptions(root / "checkpoint", output, data, data, precisions=("int8", "fp32"), **choices)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint/, intents.json and the bundle exported from them, in both precisions."""
    root = tmp_path_factory.mktemp("made")
    tiny_text_encoder.save_checkpoint(
        root / "checkpoint",
        tiny_text_encoder.CLASSIFICATION,
        labels=tiny_text_encoder.LABELS,
        out_of_scope_threshold=0.4,
        mask_head=True,
    )
    tiny_text_encoder.write_labelled(root / "intents.json")
    export_bundle(options(root, root / "bundle"), silent())
    return root


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.good]


def test_the_manifest_says_what_the_model_can_do(made: Path) -> None:
    manifest = checked_manifest(made / "bundle")
    assert manifest.family == Bundle.FAMILY_ENCODER
    assert list(manifest.tasks) == [Bundle.TASK_CLASSIFY, Bundle.TASK_FILL_MASK, Bundle.TASK_EMBED]
    assert list(manifest.classifier.labels) == tiny_text_encoder.LABELS
    assert manifest.classifier.out_of_scope_threshold == pytest.approx(0.4)
    special = manifest.special_ids
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert (manifest.limits.source_tokens, manifest.limits.target_tokens) == (40, 0)
    assert "3 labels" in manifest.embedding_note
    assert not (made / "bundle" / "generation.json").exists()
    shown = io.StringIO()
    Console(file=shown, width=120).print(rendered(manifest))
    assert all(text in shown.getvalue() for text in ("3 labels: food, travel", "likeliest label below 0.4", "macro F1"))


def test_the_certificate_holds_what_was_measured(made: Path) -> None:
    manifest = checked_manifest(made / "bundle")
    certificate = manifest.certificate
    texts = len(tiny_text_encoder.LABELLED) + len(tiny_text_encoder.OUTSIDE)
    assert certificate.test_set.sentences == texts
    assert certificate.test_set.sha256 == sha256(made / "intents.json")
    assert certificate.test_set.licence == "CC0-1.0"
    by_precision = {measured.precision: measured for measured in certificate.measurements}
    assert list(by_precision) == ["pytorch", "fp32", "int8"]
    for precision in ("fp32", "int8"):
        measured = by_precision[precision]
        path = f"{precision}/encoder.onnx"
        assert dict(measured.graph_sha256) == {path: sha256(made / "bundle" / path)}
        assert measured.parity_sentences == texts
        names = {metric.name for metric in measured.metrics}
        assert {"accuracy", "macro F1", "out-of-scope recall", MASK_ACCURACY} <= names
    assert by_precision["fp32"].identical_greedy == 1.0
    assert by_precision["fp32"].max_logit_difference < 1e-4


def test_the_bundle_says_what_pytorch_says(made: Path) -> None:
    model = load_model(made / "checkpoint", TextEncoder).model
    bundle = load_bundle(made / "bundle", "fp32")
    manifest = bundle.manifest
    runtime = OnnxPassRuntime(bundle.encoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=4)
    ids = [bundle.tokenizer.encode(text, add_special_tokens=False).ids for text in tiny_text_encoder.OUTSIDE]
    inputs = [EncoderInput([2, *each, 3], mask_positions=(2,)) for each in ids]
    assert largest_difference(run_all(by_pytorch(model), inputs), runtime.run(inputs)) < 1e-4


def test_verify_reproduces_everything(made: Path) -> None:
    verification = verify(made / "bundle", [made / "intents.json"], made / "checkpoint", stages=silent())
    assert verification.faults == []
    assert failed(verification) == []
    names = [check.name for check in verification.checks]
    assert "int8: accuracy" in names
    assert "PyTorch: probes" in names


def test_verify_finds_another_models_weights(made: Path, tmp_path: Path) -> None:
    """One weight of the float32 graph is changed, and the hashes are made right again."""
    bundle = Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))
    path = bundle / "fp32" / "encoder.onnx"
    graph = onnx.load(path)
    embedding = next(tensor for tensor in graph.graph.initializer if tensor.name == "embedding")
    embedding.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(embedding) * np.float32(1.5), "embedding"))
    path.write_bytes(graph.SerializeToString())
    manifest = json.loads((bundle / "bundle.json").read_text("utf-8"))
    entry = next(file for file in manifest["files"] if file["path"] == "fp32/encoder.onnx")
    entry |= {"bytes": str(path.stat().st_size), "sha256": sha256(path)}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    found = failed(verify(bundle, stages=silent()))
    assert "fp32: graphs that were measured" in found
    assert "fp32: probes, largest difference" in found
    assert not any(name.startswith("int8") for name in found)


def test_a_graph_that_is_not_the_model_is_refused_and_nothing_is_written(made: Path, tmp_path: Path) -> None:
    def worse(model: TextEncoder, folder: Path) -> Path:
        other = TextEncoder(model.config)
        other.load_state_dict({name: tensor * 1.2 for name, tensor in model.state_dict().items()})
        return export_text_encoder(other.eval(), folder)

    with open_job(options(made, tmp_path / "bundle"), silent()) as job, pytest.raises(CertificateError) as caught:
        export_encoder(job, load_model(made / "checkpoint", TextEncoder), exporter=worse)
    assert any("largest difference of an output" in miss for miss in caught.value.misses)
    assert not (tmp_path / "bundle").exists()


def test_what_an_encoder_does_not_have_is_refused_all_at_once(made: Path, tmp_path: Path) -> None:
    wrong = options(made, tmp_path / "bundle", source_tokens=2, target_tokens=9, columns=("en", "de"))
    with pytest.raises(ExportError) as caught:
        export_bundle(wrong, silent())
    assert [part.split(" = ")[0] for part in str(caught.value).split("; ")] == [
        "source_tokens",
        "target_tokens",
        "columns",
    ]


def test_a_test_set_with_other_labels_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "intents.json"
    other.write_text(
        json.dumps({"train": [["Play it again.", "music"]], "test": [["Play it again.", "music"]], "oos_test": []})
    )
    data = ExportOptions(made / "checkpoint", tmp_path / "bundle", [other], [made / "intents.json"])
    with pytest.raises(DataError, match="music"):
        export_bundle(data, silent())


def test_every_text_is_read_alike_alone_and_among_others(made: Path) -> None:
    asked = Options(bundle=made / "bundle", sentences=60, lanes=[1, 2], max_rows=16)
    report = run(asked, silent())
    assert report.holds
    assert report.graphs == {p: {"encoder": sha256(made / "bundle" / p / "encoder.onnx")} for p in ("int8", "fp32")}
    lines = {(line.precision, line.kind, line.lanes): line for line in report.results}
    for precision in ("int8", "fp32"):
        for kind in ("states", "labels", "masks"):
            assert {lanes for p, k, lanes in lines if (p, k) == (precision, kind)} == {1, 2}
            assert (precision, kind + EVERY_LENGTH, 1) in lines
    for line in report.results:
        assert line.comparison.scores > 0
        if line.precision == "int8":
            assert (line.comparison.different_scores, line.comparison.different_tokens) == (0, 0)
    # Nothing would be shown by texts that were alone again.
    assert max(line.mean_batch or 0.0 for line in report.results) > 1


def test_evaluate_says_of_the_bundle_what_it_says_of_the_checkpoint(made: Path) -> None:
    data = [made / "intents.json"]
    by_pytorch = evaluate_label_files(made / "checkpoint", data, None, silent())
    served = evaluate_label_files(made / "bundle", data, "fp32", silent())
    assert served == by_pytorch
    assert (served.texts, served.targets) == (11, len(tiny_text_encoder.LABELLED))
    with pytest.raises(CheckpointError, match="only a bundle has precisions"):
        evaluate_label_files(made / "checkpoint", data, "int8", silent())


@pytest.mark.parametrize("recipe", [tiny_text_encoder.TAGGING, tiny_text_encoder.SENTENCES], ids=["tags", "masks"])
def test_models_of_other_tasks_are_exported_and_verified_too(tmp_path: Path, recipe: str) -> None:
    tags = recipe == tiny_text_encoder.TAGGING
    heads: dict[str, Any] = {"tags": tiny_text_encoder.TAGS} if tags else {"mask_head": True}
    tiny_text_encoder.save_checkpoint(tmp_path / "checkpoint", recipe, encoder_layers=1, **heads)
    data = tmp_path / "texts.tsv"
    if tags:
        tiny_text_encoder.write_tagged(data)
    else:
        data.write_text("\n".join(text for text, _ in tiny_text_encoder.LABELLED), encoding="utf-8")
    asked = ExportOptions(tmp_path / "checkpoint", tmp_path / "bundle", [data], [data])
    manifest = export_bundle(asked, silent()).manifest
    assert list(manifest.tasks) == [Bundle.TASK_TAG if tags else Bundle.TASK_FILL_MASK, Bundle.TASK_EMBED]
    assert list(manifest.tagger.tags) == (tiny_text_encoder.TAGS if tags else [])
    by_precision = {measured.precision: measured for measured in manifest.certificate.measurements}
    names = {metric.name for metric in by_precision["int8"].metrics}
    assert names == ({"accuracy", "macro F1"} if tags else {MASK_ACCURACY})
    verification = verify(tmp_path / "bundle", [data], tmp_path / "checkpoint", stages=silent())
    assert (verification.faults, failed(verification)) == ([], [])


def test_what_a_caller_is_told_is_what_pytorch_says(made: Path, tmp_path: Path) -> None:
    """Text in, probabilities and vector out, over gRPC and in PyTorch."""
    shutil.copytree(made / "bundle", tmp_path / "models" / "tiny-encoder" / "1")
    trained = load_model(made / "checkpoint", TextEncoder)
    texts = [*(text for text, _ in tiny_text_encoder.LABELLED), *tiny_text_encoder.OUTSIDE]
    settings = Settings(port=0, models=tmp_path / "models", precision="fp32", lanes=1, max_rows=8)
    with serving(settings) as found, grpc.insecure_channel(found.address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        vectors = stub.Embed(inference_pb2.EmbedRequest(texts=texts, normalise=False)).embeddings
        answers = [stub.Classify(inference_pb2.ClassifyRequest(text=text)) for text in texts]
    for text, vector, answer in zip(texts, vectors, answers, strict=True):
        ids = [2, *trained.tokenizer.encode(text, add_special_tokens=False).ids, 3]
        with torch.no_grad():
            states = trained.model.states(torch.tensor([ids]))
            probabilities = trained.model.label_logits(states[:, 0]).softmax(dim=-1)[0].tolist()
        told = {label.label: label.probability for label in answer.labels}
        assert told == pytest.approx(dict(zip(tiny_text_encoder.LABELS, probabilities, strict=True)), abs=1e-5)
        assert answer.out_of_scope == (max(probabilities) < 0.4)
        np.testing.assert_allclose(vector.values, states[0, 1:-1].mean(dim=0).numpy(), atol=1e-4)
