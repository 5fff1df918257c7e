"""The proof of independence for a model that continues prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from onnx import helper
from typer.testing import CliRunner

from dragoman_server.bench_commands import independence
from dragoman_server.bundle import load_bundle
from dragoman_server.independence.cases import KINDS, Target, draw_cases
from dragoman_server.independence.sentences import own_sentences
from dragoman_server.independence.texts import encode_prompts
from dragoman_server.tokenization import TextCodec
from tests.unit.server import tiny, tiny_decoder

bench = typer.Typer()
bench.command()(independence)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder.write_bundle(tmp_path_factory.mktemp("models") / "tiny-decoder" / "1")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """The same bundle, its scores scaled by a maximum over the whole batch, as dynamic quantisation does."""
    root = tiny_decoder.write_bundle(tmp_path / "tiny-decoder" / "1")
    path = root / "fp32" / "decoder.onnx"
    decoder = onnx.load(path)
    (index,) = (i for i, node in enumerate(decoder.graph.node) if node.op_type == "LogSoftmax")
    decoder.graph.node[index].input[0] = "scaled"
    for number, node in enumerate([
        helper.make_node("ReduceMax", ["logits"], ["greatest"], keepdims=0),
        helper.make_node("Sigmoid", ["greatest"], ["scale"]),
        helper.make_node("Mul", ["logits", "scale"], ["scaled"]),
    ]):  # fmt: skip
        decoder.graph.node.insert(index + number, node)
    path.write_bytes(decoder.SerializeToString())
    manifest = tiny.read_manifest(root)
    del manifest["files"]
    tiny.write_manifest(root, manifest)
    return root


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(bench, [*map(str, args), "--sentences", "12"])


def test_cases_fit_the_window_and_ask_for_no_attention(bundle: Path) -> None:
    loaded = load_bundle(bundle, "fp32")
    codec = TextCodec(loaded.tokenizer, tags={}, eos=tiny_decoder.EOS)
    prompts = encode_prompts(own_sentences(60, seed=2), codec, loaded.manifest, seed=2)
    assert {prompt[0] for prompt in prompts} == {tiny_decoder.BOS}
    assert min(map(len, prompts)) == 1
    assert max(map(len, prompts)) == tiny_decoder.WINDOW - tiny_decoder.WINDOW // 8
    target = Target(tiny_decoder.WINDOW, loaded.manifest.dimensions.vocabulary, codec.decode, prompts=True)
    cases = draw_cases(prompts, target, seed=2)
    assert {case.kind for case in cases} == set(KINDS)
    for case in cases:
        assert not case.options.attends
        assert case.options.max_length >= 1
        assert len(case.source_ids) - 1 + case.options.max_length <= tiny_decoder.WINDOW
        assert case.options.min_length < case.options.max_length


def test_the_command_passes_a_bundle_that_keeps_the_promise(bundle: Path) -> None:
    result = run(bundle, "--lanes", "1,2", "--seed", "1", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["holds"]
    assert list(report["graphs"]["fp32"]) == ["decoder"]
    assert [(line["kind"], line["lanes"]) for line in report["results"]] == [
        (kind, lanes) for lanes in (1, 2) for kind in KINDS
    ]
    assert all(line["requests"] and line["tokens"] for line in report["results"])


def test_the_command_fails_a_bundle_whose_rows_look_at_each_other(leaky: Path) -> None:
    result = run(leaky, "--lanes", "1")
    assert result.exit_code == 1, result.output
    assert result.stdout.rstrip().endswith("NOT the same under any load")


def test_a_language_to_translate_into_is_refused(bundle: Path) -> None:
    result = run(bundle, "--target", "de")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "target = de: the model does not translate" in result.stderr
