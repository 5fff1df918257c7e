"""A bundle whose graphs share one file of weights: exported, verified, served, refused where it was tampered with."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import onnx
import pytest
from onnx import external_data_helper
from rich.console import Console

from dragoman_export.bundle_writer import sha256
from dragoman_export.export_job import ExportOptions
from dragoman_export.exporting import export_bundle
from dragoman_export.shared_embedding import TABLE
from dragoman_export.verification import verify
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.bundle import BundleError, load_bundle
from dragoman_server.inspection import checked_manifest
from dragoman_server.progress import Stages
from dragoman_server.settings import Settings
from tests.contract.running import serving
from tests.unit.export import tiny_model
from tests.unit.server import tiny

GRAPHS = ["int8/encoder.onnx", "int8/decoder.onnx", "explain.onnx"]


def silent() -> Stages:
    return Stages(Console(quiet=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint/, pairs.tsv and the bundle exported from them."""
    root = tmp_path_factory.mktemp("made")
    tiny_model.save_checkpoint(root / "checkpoint", half=True, d_model=16, num_heads=2)
    data = [tiny_model.write_pairs(root / "pairs.tsv")]
    export_bundle(ExportOptions(root / "checkpoint", root / "models" / "tiny" / "1", data, data), silent())
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "models" / "tiny" / "1", tmp_path / "bundle"))


def faults(path: Path) -> list[str]:
    with pytest.raises(BundleError) as caught:
        load_bundle(path, "int8")
    return caught.value.faults


def relist(bundle: Path) -> None:
    """Make the listed files, sizes and hashes those that are there."""
    manifest = tiny.read_manifest(bundle)
    del manifest["files"]
    tiny.write_manifest(bundle, manifest)


def test_the_file_is_listed_and_certified(bundle: Path) -> None:
    manifest = checked_manifest(bundle)
    digest = sha256(bundle / TABLE)
    assert {file.path: file.sha256 for file in manifest.files}[TABLE] == digest
    measured = next(m for m in manifest.certificate.measurements if m.precision == "int8")
    assert set(measured.graph_sha256) == {"int8/encoder.onnx", "int8/decoder.onnx", TABLE}
    assert measured.graph_sha256[TABLE] == digest
    assert (bundle / TABLE).stat().st_size == 2 * manifest.dimensions.vocabulary * 16


def test_everything_is_measured_again_with_data_and_checkpoint(made: Path, bundle: Path) -> None:
    verification = verify(bundle, [made / "pairs.tsv"], made / "checkpoint", stages=silent())
    assert verification.faults == []
    assert [check.name for check in verification.checks if not check.good] == []


def test_it_answers_and_explains(made: Path) -> None:
    settings = Settings(port=0, models=made / "models", lanes=1, max_rows=4)
    with serving(settings) as found, grpc.insecure_channel(found.address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = inference_pb2.TranslateRequest(
            text=tiny_model.PAIRS[0][0], target_language="de", options=inference_pb2.DecodingOptions(beam_size=1)
        )
        answer = stub.Translate(request)
        explained = stub.Explain(inference_pb2.ExplainRequest(text=request.text, target_language="de"))
    assert answer.hypotheses[0].text == explained.target_text


def test_a_flipped_byte_is_refused(bundle: Path) -> None:
    content = bytearray((bundle / TABLE).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / TABLE).write_bytes(content)
    (fault,) = faults(bundle)
    assert TABLE in fault
    assert "SHA-256" in fault


def test_a_missing_file_is_refused_by_one_fault(bundle: Path) -> None:
    (bundle / TABLE).unlink()
    assert faults(bundle) == [f"{TABLE!r}: missing"]


def test_other_weights_are_found_though_every_hash_is_right(bundle: Path) -> None:
    content = bytearray((bundle / TABLE).read_bytes())
    content[::2] = content[::-2]
    (bundle / TABLE).write_bytes(content)
    relist(bundle)
    verification = verify(bundle, stages=silent())
    assert verification.faults == []
    assert "int8: graphs that were measured" in [check.name for check in verification.checks if not check.good]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "unlisted.bin", "../int8/embedding.bin"])
def test_a_location_elsewhere_is_refused(bundle: Path, graph: str, location: str) -> None:
    (bundle.parent / "outside.bin").write_bytes((bundle / TABLE).read_bytes())
    model = onnx.load(bundle / graph, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if external_data_helper.uses_external_data(tensor))
    next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (bundle / graph).write_bytes(model.SerializeToString())
    relist(bundle)
    assert faults(bundle) == [f"{graph}: external data in {location!r}, which is not a listed file of the bundle"]
