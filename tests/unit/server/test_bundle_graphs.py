"""Graphs of a bundle: their ports must fit the manifest, and their weights lie inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper

from dragoman_server.bundle import load_bundle
from dragoman_server.graphs import external_locations
from tests.unit.server import tiny
from tests.unit.server.bundle_faults import Manifest, faults, faults_after, relist, replace_graph


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write_bundle(tmp_path / "1")


def test_inputs_and_outputs_are_compared_with_the_dimensions(bundle: Path) -> None:
    def edit(manifest: Manifest) -> None:
        manifest["dimensions"].update(dModel=32, headDim=16, decoderLayers=3, topK=8)

    found = "\n".join(faults_after(bundle, edit))
    for part in (
        "fp32: encoder output cross: dimension 0 is 4, expected 6",
        "fp32: encoder output cross: dimension 3 is 8, expected 16",
        "fp32: decoder input past_key_2: missing",
        "fp32: decoder input cross_last_key_0: dimension 2 is 16, expected 32",
        "fp32: decoder output top_ids: dimension 1 is 16, expected 8",
    ):
        assert part in found


def test_wrong_type_rank_and_name_of_ports(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        mask = next(port for port in model.graph.input if port.name == "attention_mask")
        mask.type.tensor_type.elem_type = TensorProto.INT64
        extra = model.graph.input.add()
        extra.CopyFrom(onnx.helper.make_tensor_value_info("language", TensorProto.INT64, ["batch", 1, 1]))
        flat = onnx.helper.make_node("Identity", ["cross_last"], ["renamed"])
        model.graph.node.append(flat)
        output = next(port for port in model.graph.output if port.name == "cross_last")
        output.name = "renamed"

    replace_graph(bundle, "encoder", edit)
    found = faults(bundle)
    assert "fp32: encoder input attention_mask: type tensor(int64), expected tensor(int32)" in found
    assert "fp32: encoder input language: unknown" in found
    assert "fp32: encoder output cross_last: missing" in found
    assert "fp32: encoder output renamed: unknown" in found


def test_a_fixed_batch_and_a_wrong_rank(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        ports = {port.name: port.type.tensor_type.shape for port in (*model.graph.input, *model.graph.output)}
        ports["past_key_1"].dim[0].dim_value = 4
        del ports["top_ids"].dim[1]
        top = next(node for node in model.graph.node if node.op_type == "TopK")
        top.output[1] = "candidates"
        flat = onnx.numpy_helper.from_array(np.array([-1]), "flat")
        model.graph.initializer.append(flat)
        model.graph.node.append(onnx.helper.make_node("Reshape", ["candidates", "flat"], ["top_ids"]))

    replace_graph(bundle, "decoder", edit)
    found = faults(bundle)
    assert "fp32: decoder input past_key_1: dimension 0 is 4, expected a dynamic one" in found
    assert "fp32: decoder output top_ids: rank 1, expected 2" in found


def test_caches_of_encoder_and_decoder_must_have_one_type(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        producer = next(node for node in model.graph.node if node.output[0] == "cross")
        producer.output[0] = "wide"
        model.graph.node.append(onnx.helper.make_node("Cast", ["wide"], ["cross"], to=TensorProto.FLOAT16))
        port = next(port for port in model.graph.output if port.name == "cross")
        port.type.tensor_type.elem_type = TensorProto.FLOAT16

    replace_graph(bundle, "encoder", edit)
    assert faults(bundle)[0] == (
        "fp32: encoder cross: type tensor(float16), but the decoder's input cross_key_0 has tensor(float)"
    )


def test_a_graph_that_is_none(bundle: Path) -> None:
    (bundle / "fp32" / "encoder.onnx").write_bytes(b"\xff\xff\xff")
    (bundle / "fp32" / "decoder.onnx").write_bytes(b"")
    relist(bundle)
    found = faults(bundle)
    assert found[0].startswith("fp32/encoder.onnx: not an ONNX file")


def make_external(path: Path, location: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")

    replace_graph(path, "encoder", edit)


@pytest.mark.parametrize(
    "location", ["../../outside.bin", "/etc/hostname", "../tokenizer.json", "unlisted.bin", "", "*/_ORT_MEM_ADDR_/*"]
)
def test_weights_outside_the_bundle_are_refused(bundle: Path, location: str) -> None:
    (bundle.parent / "outside.bin").write_bytes(bytes(1 << 20))
    make_external(bundle, location)
    expected = f"fp32/encoder.onnx: external data in {location!r}, which is not a listed file of the bundle"
    assert faults(bundle) == [expected]


def test_weights_in_a_listed_file_are_read(bundle: Path) -> None:
    file = bundle / "fp32" / "encoder.onnx"
    model = onnx.load_model_from_string(file.read_bytes())
    onnx.save_model(model, file, save_as_external_data=True, location="weights.bin", size_threshold=128)
    relist(bundle)
    assert external_locations(file.read_bytes()) == {"weights.bin"}
    assert load_bundle(bundle, "fp32").encoder == file


def test_external_data_is_found_in_constants_and_nested_graphs() -> None:
    def outside(name: str) -> onnx.TensorProto:
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=name)
        return tensor

    constant = onnx.helper.make_node("Constant", [], ["c"], value=outside("constant.bin"))
    branch = onnx.helper.make_graph([constant], "branch", [], [], [outside("branch.bin")])
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    sparse = onnx.SparseTensorProto(values=outside("sparse.bin"), indices=outside("indices.bin"), dims=[4])
    graph = onnx.helper.make_graph([node], "main", [], [], [outside("main.bin")], sparse_initializer=[sparse])
    found = external_locations(onnx.helper.make_model(graph).SerializeToString())
    assert found == {"constant.bin", "branch.bin", "sparse.bin", "indices.bin", "main.bin"}


@pytest.mark.parametrize("content", [b"\x3a\x7f\x01", b"\x3b", b"\x80", b"\xff" * 20])
def test_broken_wire_format_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|wire type"):
        external_locations(content)
