"""Bundles that are checked when they are loaded: manifest, files, tokenizer, defaults."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dragoman_server.bundle import load_bundle
from tests.unit.server import tiny
from tests.unit.server.bundle_faults import Manifest, faults, faults_after, relist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("built") / "1")


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "1"))


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
