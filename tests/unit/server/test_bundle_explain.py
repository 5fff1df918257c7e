"""What loading checks of a bundle's explain.onnx."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dragoman_server.bundle import BundleError, load_bundle
from tests.unit.server import tiny
from tests.unit.server.tiny_explain import add_explain, build_explain


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_explain(tiny.write_bundle(tmp_path_factory.mktemp("built") / "1"))


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "1"))


def faults(path: Path) -> list[str]:
    with pytest.raises(BundleError) as caught:
        load_bundle(path, "fp32")
    return caught.value.faults


def relisted(path: Path, **changes: object) -> Path:
    manifest = tiny.read_manifest(path) | changes
    manifest.pop("files")
    tiny.write_manifest(path, manifest)
    return path


def test_a_good_one_is_found(bundle: Path) -> None:
    assert load_bundle(bundle, "fp32").explain == bundle / "explain.onnx"


def test_a_bundle_without_one_loads(bundle: Path) -> None:
    (bundle / "explain.onnx").unlink()
    assert load_bundle(relisted(bundle, explain=""), "fp32").explain is None


def test_other_bytes_and_one_that_is_not_listed_are_refused(bundle: Path) -> None:
    content = bytearray((bundle / "explain.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "explain.onnx").write_bytes(content)
    assert any("explain.onnx" in fault and "SHA-256" in fault for fault in faults(bundle))
    assert any("explain = 'elsewhere.onnx'" in fault for fault in faults(relisted(bundle, explain="elsewhere.onnx")))


def test_a_graph_of_other_layers_or_of_another_family_is_refused(bundle: Path) -> None:
    vocabulary = tiny.read_manifest(bundle)["dimensions"]["vocabulary"]
    (bundle / "explain.onnx").write_bytes(build_explain(vocabulary, 3, tiny.LAYERS).SerializeToString())
    assert faults(relisted(bundle)) == ["explain output encoder_self: dimension 1 is 3, expected 1"]
    (bundle / "explain.onnx").write_bytes(build_explain(vocabulary, 0, tiny.LAYERS).SerializeToString())
    found = faults(relisted(bundle))
    assert "explain input source_ids: missing" in found
    assert "explain input input_ids: unknown" in found
    assert "explain output cross: missing" in found


def test_what_is_no_graph_is_refused(bundle: Path) -> None:
    (bundle / "explain.onnx").write_bytes(b"no graph")
    assert any("explain" in fault for fault in faults(relisted(bundle)))
