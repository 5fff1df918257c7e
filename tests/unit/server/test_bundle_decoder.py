"""What loading says of a decoder-only bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from dragoman_server.bundle import BundleError, load_bundle
from tests.unit.server import tiny, tiny_decoder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder.write_bundle(tmp_path_factory.mktemp("built") / "1")


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "1"))


def faults_after(path: Path, edit: Callable[[dict[str, Any]], object]) -> list[str]:
    manifest = tiny.read_manifest(path)
    edit(manifest)
    tiny.write_manifest(path, manifest)
    with pytest.raises(BundleError) as caught:
        load_bundle(path, "fp32")
    return caught.value.faults


def test_a_good_bundle_loads(bundle: Path) -> None:
    loaded = load_bundle(bundle, "fp32")
    assert loaded.decoder == bundle / "fp32" / "decoder.onnx"
    assert set(loaded.graphs) == {"decoder"}
    assert loaded.explain is None
    assert loaded.default_options.max_length == 20


def test_values_that_do_not_fit_a_decoder_are_all_reported(bundle: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["tasks"] = ["TASK_GENERATE", "TASK_TRANSLATE"]
        manifest["limits"] = {"sourceTokens": 7, "targetTokens": 1}
        manifest["languages"] = [{"code": "de", "name": "German", "tag": "<pad>", "tagId": 77}]
        manifest["dimensions"]["decoderLayers"] = 0
        manifest["specialIds"]["eos"] = manifest["specialIds"]["bos"]

    found = "\n".join(faults_after(bundle, edit))
    for part in (
        "tasks = [TASK_GENERATE, TASK_TRANSLATE]: one or more of TASK_GENERATE",
        "source_tokens = 7: 0",
        "target_tokens = 1: at least 2",
        "languages: 1, but FAMILY_DECODER has none",
        "decoder_layers = 0: at least 1",
        "special_ids and tag_ids: 2 occurs twice",
    ):
        assert part in found


def test_inputs_and_outputs_are_compared_with_the_dimensions(bundle: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["dimensions"].update(dModel=32, headDim=16, decoderLayers=3, topK=8)

    found = "\n".join(faults_after(bundle, edit))
    for part in (
        "fp32: decoder input past_value_2: missing",
        "fp32: decoder output present_key_0: dimension 3 is 8, expected 16",
        "fp32: decoder output top_ids: dimension 1 is 16, expected 8",
    ):
        assert part in found


def test_the_number_of_tokens_and_of_rows_stays_open(bundle: Path) -> None:
    path = bundle / "fp32" / "decoder.onnx"
    model = onnx.load_model_from_string(path.read_bytes())
    ids = next(port for port in model.graph.input if port.name == "input_ids")
    ids.type.tensor_type.shape.dim[1].dim_value = 1
    path.write_bytes(model.SerializeToString())
    found = faults_after(bundle, lambda manifest: manifest.pop("files"))
    assert "fp32: decoder input input_ids: dimension 1 is 1, expected a dynamic one" in found


def test_all_caches_have_one_type(bundle: Path) -> None:
    path = bundle / "fp32" / "decoder.onnx"
    model = onnx.load_model_from_string(path.read_bytes())
    producer = next(node for node in model.graph.node if "present_key_1" in node.output)
    producer.output[1] = "wide"
    model.graph.node.append(onnx.helper.make_node("Cast", ["wide"], ["present_key_1"], to=TensorProto.FLOAT16))
    port = next(port for port in model.graph.output if port.name == "present_key_1")
    port.type.tensor_type.elem_type = TensorProto.FLOAT16
    path.write_bytes(model.SerializeToString())
    assert faults_after(bundle, lambda manifest: manifest.pop("files")) == [
        "fp32: decoder present_key_1: type tensor(float16), but the decoder's input past_key_0 has tensor(float)"
    ]


def test_an_encoder_is_no_part_of_it(bundle: Path) -> None:
    found = faults_after(bundle, lambda manifest: manifest["precisions"]["fp32"].update(encoder="fp32/encoder.onnx"))
    assert found == ["precisions.fp32.encoder = 'fp32/encoder.onnx': FAMILY_DECODER has no such graph"]
