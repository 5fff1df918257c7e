from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper

from dragoman_server.bundle import BundleError, load_bundle
from dragoman_server.graphs import external_locations
from tests.unit.server import tiny

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("built") / "1")


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "1"))


def faults(path: Path, precision: str = "fp32") -> list[str]:
    with pytest.raises(BundleError) as caught:
        load_bundle(path, precision)
    assert caught.value.path == path
    return caught.value.faults


def faults_after(path: Path, edit: Callable[[Manifest], object]) -> list[str]:
    manifest = tiny.read_manifest(path)
    edit(manifest)
    tiny.write_manifest(path, manifest)
    return faults(path)


def relist(path: Path) -> None:
    manifest = tiny.read_manifest(path)
    del manifest["files"]
    tiny.write_manifest(path, manifest)


def replace_graph(path: Path, name: str, edit: Callable[[onnx.ModelProto], object]) -> None:
    file = path / "fp32" / f"{name}.onnx"
    model = onnx.load_model_from_string(file.read_bytes())
    edit(model)
    file.write_bytes(model.SerializeToString())
    relist(path)


def test_a_good_bundle_loads(bundle: Path) -> None:
    loaded = load_bundle(bundle, "fp32")
    assert loaded.manifest.name == "tiny"
    assert loaded.default_options.max_length == 20
    assert loaded.encoder == bundle / "fp32" / "encoder.onnx"
    assert loaded.decoder == bundle / "fp32" / "decoder.onnx"
    assert loaded.tokenizer.get_vocab_size() == loaded.manifest.dimensions.vocabulary


def test_missing_and_unparsable_manifest(bundle: Path, tmp_path: Path) -> None:
    assert "bundle.json: cannot be read" in faults(tmp_path / "nowhere")[0]
    for text in ("", "{", "[]", '{"formatVersion": "one"}', "\ud800".encode("utf-8", "surrogatepass"), '{"a":' * 5_000):
        (bundle / "bundle.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        assert "bundle.json" in faults(bundle)[0]
    (bundle / "bundle.json").write_bytes(b" " * (5 << 20))
    assert faults(bundle) == ["bundle.json: longer than 4194304 bytes"]


def test_unknown_format_version(bundle: Path) -> None:
    found = faults_after(bundle, lambda m: m.update(formatVersion=2))
    assert found == ["format_version = 2: this server reads 1"]


def test_unknown_field_does_not_hide_what_follows(bundle: Path) -> None:
    found = faults_after(bundle, lambda m: m.update(colour="red", formatVersion=9))
    assert len(found) == 2
    assert "colour" in found[0]
    assert "format_version = 9" in found[1]


def test_missing_resized_and_changed_files_are_all_reported(bundle: Path) -> None:
    (bundle / "fp32" / "encoder.onnx").unlink()
    with (bundle / "generation.json").open("ab") as stream:
        stream.write(b" ")
    content = bytearray((bundle / "tokenizer.json").read_bytes())
    content[50] ^= 1
    (bundle / "tokenizer.json").write_bytes(content)
    found = "\n".join(faults(bundle, "int4"))
    for part in (
        "encoder.onnx': missing",
        "generation.json': ",
        "bytes, listed with",
        "tokenizer.json': SHA-256",
        "'int4'",
    ):
        assert part in found


@pytest.mark.parametrize("name", ["tokenizer.json", "generation.json", "fp32/encoder.onnx", "fp32/decoder.onnx"])
def test_one_flipped_bit_in_any_file_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 4
    (bundle / name).write_bytes(content)
    assert [fault for fault in faults(bundle) if "SHA-256" in fault and name in fault]


@pytest.mark.parametrize(
    "path",
    ["/etc/hostname", "../1/tokenizer.json", "fp32/../tokenizer.json", "./tokenizer.json", "fp32\\x", "", "a//b"],
)
def test_listed_paths_stay_inside(bundle: Path, path: str) -> None:
    entry = {"path": path, "bytes": "1", "sha256": "0" * 64}
    found = faults_after(bundle, lambda m: m["files"].append(entry))
    assert len(found) == 1
    assert found[0].startswith(repr(path))


def test_a_link_that_leaves_the_folder_is_refused_even_with_the_right_content(bundle: Path) -> None:
    outside = bundle.parent / "outside.json"
    (bundle / "tokenizer.json").rename(outside)
    (bundle / "tokenizer.json").symlink_to(outside)
    assert faults(bundle) == ["'tokenizer.json': a link that leaves the folder"]


def test_a_linked_folder_that_leaves_is_refused(bundle: Path) -> None:
    (bundle / "fp32").rename(bundle.parent / "fp32")
    (bundle / "fp32").symlink_to(bundle.parent / "fp32")
    assert faults(bundle).count("'fp32/encoder.onnx': a link that leaves the folder") == 1


def test_files_and_list_must_agree(bundle: Path) -> None:
    (bundle / "fp32" / "stray.bin").write_bytes(b"1")
    (bundle / ".gitattributes").write_bytes(b"")  # what tools leave behind does no harm
    found = faults_after(bundle, lambda m: m["files"].pop())
    assert found == [
        "'fp32/stray.bin': in the folder, but not listed in bundle.json",
        "'tokenizer.json': in the folder, but not listed in bundle.json",
        "tokenizer.json: not listed in bundle.json",
    ]


def test_a_file_listed_twice(bundle: Path) -> None:
    assert faults_after(bundle, lambda m: m["files"].append(m["files"][0])) == ["fp32/decoder.onnx: listed twice"]


def test_graphs_and_precisions(bundle: Path) -> None:
    assert faults(bundle, "int8") == ["precision 'int8': the bundle offers fp32"]
    found = faults_after(bundle, lambda m: m["precisions"]["fp32"].update(encoder="", decoder="/etc/passwd"))
    assert found == [
        "precisions.fp32.encoder = '': not listed in bundle.json",
        "precisions.fp32.decoder = '/etc/passwd': not listed in bundle.json",
    ]
    assert "precisions = {}: at least one" in faults_after(bundle, lambda m: m.update(precisions={}))


def test_values_that_contradict_each_other_are_all_reported(bundle: Path) -> None:
    def edit(manifest: Manifest) -> None:
        manifest["name"] = "Tiny!"
        manifest["tasks"] = ["TASK_TAG"]
        manifest["dimensions"].update(numHeads=3, topK=0)
        manifest["limits"] = {"sourceTokens": 2}
        manifest["languages"][1]["code"] = "de"
        manifest["specialIds"]["bos"] = manifest["specialIds"]["eos"]

    found = "\n".join(faults_after(bundle, edit))
    for part in (
        "name = 'Tiny!'",
        "tasks = [TASK_TAG]",
        "d_model = 16",
        "top_k = 0",
        "source_tokens = 2",
        "target_tokens = 0",
    ):
        assert part in found
    for part in ("code 'de' is empty or occurs twice", "3 occurs twice"):
        assert part in found


def test_an_unknown_family_is_refused_by_itself(bundle: Path) -> None:
    (found,) = faults_after(bundle, lambda m: m.update(family="FAMILY_UNSPECIFIED"))
    assert found.startswith("family = 0: this server runs FAMILY_ENCODER_DECODER")


def test_an_explaining_graph_must_be_listed_too(bundle: Path) -> None:
    assert faults_after(bundle, lambda m: m.update(explain="explain.onnx")) == [
        "explain = 'explain.onnx': not listed in bundle.json"
    ]


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


def test_tokenizer_must_fit_the_manifest(bundle: Path) -> None:
    def edit(manifest: Manifest) -> None:
        manifest["languages"][0]["tagId"] = 9
        manifest["languages"][1]["tag"] = "<2fr>"
        manifest["specialIds"]["pad"] = 40
        manifest["dimensions"]["vocabulary"] += 1

    found = "\n".join(faults_after(bundle, edit))
    for part in ("tokens, but dimensions.vocabulary", "'<2de>' has tag_id 9, but 4", "'<2fr>' has tag_id 5, but None"):
        assert part in found
    assert "special_ids.pad = 40: not a special token of tokenizer.json" in found


def test_tokenizer_that_is_none(bundle: Path) -> None:
    (bundle / "tokenizer.json").write_text("{}")
    relist(bundle)
    assert faults(bundle)[0].startswith("tokenizer.json: cannot be read")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"maxLength": 0}', "maxLength = 0"),
        ('{"maxLength": 25}', "1 to limits.target_tokens, 24"),
        ('{"maxLength": -1}', "generation.json"),
        ('{"beams": 4}', "beams"),
        ("{", "generation.json"),
        ("[]", "generation.json: not a JSON object"),
    ],
)
def test_generation_defaults_must_be_known_and_in_range(bundle: Path, text: str, part: str) -> None:
    (bundle / "generation.json").write_text(text)
    relist(bundle)
    found = faults(bundle)
    assert len(found) == 1
    assert part in found[0]
