"""The library of compiled operators: how it is found, when it is used, and the shipped models on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.compiled_kernels import KernelsUnavailableError, chosen_library, open_library, takes_heads
from dragoman_server.device import CPU, Device
from dragoman_server.kernels.build import BuildError, build, compiler
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import fitting_kernels, lane_session
from tests.unit.server import tiny
from tests.unit.server.kernel_graphs import model

MODELS = Path(__file__).parents[3] / "models"
STEPS = 12
SCALES = {"scales": 2, "biases": 1}


def test_a_library_that_is_not_there_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(KernelsUnavailableError, match="not compiled"):
        open_library(tmp_path / "library.so")
    (tmp_path / "library.so").write_bytes(b"no library")
    with pytest.raises(KernelsUnavailableError, match=r"library\.so does not load"):
        open_library(tmp_path / "library.so")
    assert chosen_library("builtin") is None


def test_a_library_of_older_sources_is_none(tmp_path: Path) -> None:
    if (command := compiler()) is None:
        pytest.skip("no C++ compiler")
    source, library = tmp_path / "old.cc", tmp_path / "library.so"
    source.write_text('extern "C" const char* dragoman_instruction_set() { return "avx2"; }\n', encoding="utf-8")
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    with pytest.raises(KernelsUnavailableError, match="compile it here"):
        open_library(library)


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(BuildError, match=r"^false failed"):
        build(tmp_path / "library.so")
    monkeypatch.setenv("CXX", str(tmp_path / "nowhere"))
    with pytest.raises(BuildError, match="nowhere"):
        build(tmp_path / "library.so")
    assert not list(tmp_path.iterdir())


def test_models_that_the_operators_are_not_made_for_keep_onnxruntimes(compiled: Path, tmp_path: Path) -> None:
    assert [size for size in range(300) if takes_heads(size)] == list(range(16, 257, 16))
    decoder = load_bundle(MODELS / "deu-eng" / "1", "int8").decoder
    assert fitting_kernels(compiled, decoder, 64) == compiled
    assert fitting_kernels(compiled, decoder, 40) is None
    assert fitting_kernels(None, decoder, 64) is None
    floats = load_bundle(tiny.write_bundle(tmp_path / "1"), "fp32").decoder
    assert fitting_kernels(compiled, floats, 64) is None


def test_a_graph_that_they_refuse_runs_on_onnxruntimes(compiled: Path, tmp_path: Path) -> None:
    path = tmp_path / "normalized.onnx"
    values, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("values", "output"))
    node = helper.make_node("LayerNormalization", ["values", "scales", "biases"], ["output"], axis=0)
    constants = [numpy_helper.from_array(np.full(2, size, np.float32), name) for name, size in SCALES.items()]
    path.write_bytes(model([node], [values], [output], constants))
    (found,) = lane_session(path, kernels=compiled).run(None, {"values": np.array([3, 1], np.float32)})
    np.testing.assert_allclose(found, [3, -1], atol=1e-4)


def translator(bundle: LoadedBundle, rows: int, kernels: Path | None, device: Device = CPU) -> OnnxRuntime:
    manifest = bundle.manifest
    return OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=rows,
        device=device,
        kernels=kernels,
    )


def decoded(
    runtime: OnnxRuntime, sources: list[list[int]], fed: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The candidates' scores and ids (steps, rows, top_k) when each row is fed its own tokens (rows, steps)."""
    runtime.encode(range(len(sources)), sources)
    scores, ids = [], []
    for tokens in fed.T:
        output = runtime.step(tokens)
        scores.append(output.top_log_probs.copy())
        ids.append(output.top_ids.copy())
    return np.array(scores), np.array(ids)


def test_the_shipped_translator_says_the_same_and_the_same_to_the_bit_in_any_company(compiled: Path) -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")
    random = np.random.default_rng(5)
    vocabulary = bundle.manifest.dimensions.vocabulary
    sources = [random.integers(10, vocabulary, random.integers(1, 40)).tolist() for _ in range(20)]
    fed = random.integers(10, vocabulary, (20, STEPS))
    scores, ids = decoded(translator(bundle, 20, compiled), sources, fed)
    plain_scores, plain_ids = decoded(translator(bundle, 20, None), sources, fed)
    assert (ids[..., 0] == plain_ids[..., 0]).mean() > 0.98
    assert np.median(np.abs(scores - plain_scores)) < 1e-3
    alone = translator(bundle, 3, compiled)
    for row in range(0, 20, 3):
        own_scores, own_ids = decoded(alone, sources[row : row + 1], fed[row : row + 1])
        np.testing.assert_array_equal(own_scores[:, 0], scores[:, row])
        np.testing.assert_array_equal(own_ids[:, 0], ids[:, row])


def test_where_the_caches_lie_changes_no_bit_of_what_they_compute(compiled: Path) -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")
    random = np.random.default_rng(7)
    vocabulary = bundle.manifest.dimensions.vocabulary
    sources = [random.integers(10, vocabulary, length).tolist() for length in (3, 30, 11)]
    fed = random.integers(10, vocabulary, (3, STEPS))
    (scores, ids), (resident_scores, resident_ids) = (
        decoded(translator(bundle, 3, compiled, device), sources, fed) for device in (CPU, Device(resident=True))
    )
    np.testing.assert_array_equal(resident_scores, scores)
    np.testing.assert_array_equal(resident_ids, ids)


def test_the_shipped_language_model_reads_prompts_in_chunks(compiled: Path) -> None:
    bundle = load_bundle(MODELS / "shakespeare" / "1", "int8")
    manifest = bundle.manifest
    prompt = np.random.default_rng(6).integers(10, manifest.dimensions.vocabulary, 90).tolist()
    found = []
    for kernels in (compiled, None):
        runtime = OnnxPromptRuntime(
            bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=4, kernels=kernels
        )
        for begin in (0, 64):
            runtime.prefill(prompt[begin : begin + 64], begin)
        for row in range(3):
            runtime.admit(row, len(prompt) - 30 * row)
        found.append([runtime.step([prompt[-1]] * 3).top_log_probs.copy() for _ in range(STEPS)])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=0.2)
    assert np.median(np.abs(np.array(found[0]) - np.array(found[1]))) < 1e-2
