from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.calibration import Calibration, Range
from dragoman_export.graphs import GraphPaths, export_graphs
from dragoman_export.linears import find_linears, norms_before_linears, read_weights
from dragoman_export.quantization_plan import ATTEMPTS, Attempt, ObservedGraph, observe, quantized_variants
from dragoman_export.quantize import quantize, quantize_symmetric, smooth
from dragoman_export.stepping import SteppedGraphs
from dragoman_protos.v1.bundle_pb2 import Bundle, Limits, SpecialIds
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.session_options import processor_options
from tests.unit.export import tiny_model

Array = npt.NDArray[Any]


def _random(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHTS = {
    "embedding": _random(1, 10, 6),
    "gamma": 1 + 0.1 * _random(2, 6),
    "beta": 0.1 * _random(3, 6),
    "first.weight": _random(4, 6, 5),
    "first.bias": _random(5, 5),
    "second.weight": _random(6, 6, 4),
}


def small_graph() -> onnx.ModelProto:
    """Embedding, norm, and two linear maps of the norm's result: one with a bias."""
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["x"], name="gather"),
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["h"], name="norm", axis=-1),
        helper.make_node("MatMul", ["h", "first.weight"], ["product"], name="first"),
        helper.make_node("Add", ["product", "first.bias"], ["y"], name="first_add"),
        helper.make_node("MatMul", ["h", "second.weight"], ["z"], name="second"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [info("ids", TensorProto.INT64, ["n"])],
        [info(name, TensorProto.FLOAT, None) for name in ("x", "h", "y", "z")],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in WEIGHTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, ids: list[int]) -> dict[str, Array]:
    session = ort.InferenceSession(model.SerializeToString(), processor_options(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, {"ids": np.array(ids, np.int64)}), strict=True))


def reference_linear(x: Array, weight: Array, bias: Array | float, chosen: Range) -> Array:
    zero = int(chosen.zero_point)
    numbers = np.clip(np.rint(x / chosen.scale) + zero, 0, 255).astype(np.int32) - zero
    matrix, scales = quantize_symmetric(weight, axis=0)
    result: Array = (numbers @ matrix.astype(np.int32)) * (chosen.scale * scales) + bias
    return result


def test_a_quantised_linear_map_is_the_numpy_reference() -> None:
    chosen = Range(-2.0, 2.5)
    found = run(quantize(small_graph(), {"h": chosen}), list(range(10)))
    y = reference_linear(found["h"], WEIGHTS["first.weight"], WEIGHTS["first.bias"], chosen)
    z = reference_linear(found["h"], WEIGHTS["second.weight"], 0.0, chosen)
    np.testing.assert_allclose(found["y"], y, atol=1e-5)
    np.testing.assert_allclose(found["z"], z, atol=1e-5)


def test_the_embedding_keeps_eight_bits_a_number() -> None:
    found = run(quantize(small_graph(), {"h": Range(-2.0, 2.5)}), [3, 0, 9])
    table, scales = quantize_symmetric(WEIGHTS["embedding"], axis=1)
    np.testing.assert_array_equal(found["x"], (table * scales)[[3, 0, 9]])
    assert np.abs(found["x"] - WEIGHTS["embedding"][[3, 0, 9]]).max() <= scales.max() / 2 + 1e-6


def test_a_tensor_is_quantised_once_for_all_its_readers_and_float_weights_are_gone() -> None:
    model = quantize(small_graph(), {"h": Range(-2.0, 2.5)})
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("MatMulIntegerToFloat") == 2
    assert not {"MatMul", "Add"} & set(kinds)
    assert not {"embedding", "first.weight", "second.weight"} & set(read_weights(model))


def test_named_layers_stay_in_float() -> None:
    exact, found = run(small_graph(), [1, 2]), run(quantize(small_graph(), {"h": Range(-2, 2)}, keep={"first"}), [1, 2])
    expected = found["h"] @ WEIGHTS["first.weight"] + WEIGHTS["first.bias"]
    np.testing.assert_allclose(found["y"], expected, atol=1e-5)
    assert not np.allclose(found["z"], exact["z"], atol=1e-6)


def test_a_range_that_was_not_calibrated_is_an_error() -> None:
    with pytest.raises(KeyError):
        quantize(small_graph(), {})


def test_smoothing_changes_nothing_in_float_and_levels_the_channels() -> None:
    model = small_graph()
    hidden = run(model, list(range(10)))["h"].copy()
    hidden[:, 2] *= 30
    del model.graph.output[1]  # "h": what somebody else reads is not smoothed
    calibration = Calibration()
    calibration.add({"h": hidden})
    smoothed, ranges = smooth(model, calibration, calibration.ranges("range"))
    before, after = run(model, [4, 5, 6]), run(smoothed, [4, 5, 6])
    for name in ("y", "z"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)
    assert ranges["h"].scale < calibration.ranges("range")["h"].scale


def test_linear_maps_are_found_with_their_names_and_biases() -> None:
    model = small_graph()
    first, second = find_linears(model, read_weights(model))
    assert (first.name, first.bias, first.output) == ("first", "first.bias", "y")
    assert (second.name, second.bias, second.output) == ("second", None, "z")


def test_a_norm_that_somebody_else_reads_is_not_smoothed() -> None:
    # In the small graph the norm's result is an output, too, until it is taken away from them.
    model = small_graph()
    weights = read_weights(model)
    assert list(norms_before_linears(model, weights)) == []
    del model.graph.output[1]
    assert [before.norm.name for before in norms_before_linears(model, weights)] == ["norm"]


SOURCES = [[4, 17, 3], [5, 30, 31, 32, 33, 3], [4, 250, 3], [5, 77, 12, 40, 41, 3], [4, 9, 8, 7, 6, 5, 10, 11, 3]]
TARGETS = [[9, 9], [8], [7, 6, 5], [], [4]]


class Calibrated(NamedTuple):
    """A tiny model's float32 graphs, its manifest, and what was observed."""

    fp32: GraphPaths
    manifest: Bundle
    observed: tuple[ObservedGraph, ObservedGraph]
    folder: Path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    model = tiny_model.make_model()
    folder = tmp_path_factory.mktemp("int8")
    manifest = Bundle(
        dimensions=tiny_model.dimensions(model),
        special_ids=SpecialIds(pad=0, unk=1, bos=2, eos=3),
        limits=Limits(source_tokens=20, target_tokens=12),
    )
    fp32 = export_graphs(model, folder / "fp32")
    return Calibrated(fp32, manifest, observe(fp32, manifest, SOURCES, TARGETS, threads=1), folder)


@pytest.fixture(scope="module")
def int8_runtime(calibrated: Calibrated) -> tuple[GraphPaths, Bundle]:
    variants = quantized_variants(calibrated.observed, calibrated.folder / "int8", [Attempt("range")])
    return next(iter(variants)).paths, calibrated.manifest


def forced(paths: GraphPaths) -> list[Array]:
    graphs = SteppedGraphs(*paths, pad=0, bos=2, threads=1)
    steps = graphs.force(graphs.encode(SOURCES), TARGETS, ["logits"])
    return [step.outputs["logits"][step.active] for step in steps]


def test_every_way_to_quantise_stays_near_float_and_says_what_it_is(calibrated: Calibrated, tmp_path: Path) -> None:
    exact = forced(calibrated.fp32)
    descriptions = []
    for variant in quantized_variants(calibrated.observed, tmp_path):
        for left, right in zip(forced(variant.paths), exact, strict=True):
            np.testing.assert_allclose(left, right, atol=0.5)
        descriptions.append(variant.description)
    assert len(set(descriptions)) == len(ATTEMPTS)
    assert "SmoothQuant" in descriptions[3]
    assert "in float32: encoder layers." in descriptions[4]
    assert "decoder layers." in descriptions[4]


def decode(paths: GraphPaths, manifest: Bundle, rows: list[int]) -> list[list[bytes]]:
    """Candidates and scores of every step, as bytes, for the sources of these numbers in one batch."""
    runtime = OnnxRuntime(*paths, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=8)
    runtime.encode(list(range(len(rows))), [SOURCES[i] for i in rows])
    tokens, history = [2] * len(rows), [[] for _ in rows]  # type: list[int], list[list[bytes]]
    for _ in range(8):
        output = runtime.step(tokens)
        tokens = output.top_ids[:, 0].tolist()
        for row in range(len(rows)):
            history[row].append(output.top_ids[row].tobytes() + output.top_log_probs[row].tobytes())
    return history


def test_int8_gives_the_same_bits_alone_and_in_any_company(int8_runtime: tuple[GraphPaths, Bundle]) -> None:
    together = decode(*int8_runtime, [0, 1, 2, 3, 4])
    for row in range(len(SOURCES)):
        assert decode(*int8_runtime, [row]) == [together[row]]


def test_the_int8_encoder_gives_the_same_bits_alone_and_in_any_company(
    int8_runtime: tuple[GraphPaths, Bundle],
) -> None:
    graphs = SteppedGraphs(*int8_runtime[0], pad=0, bos=2, threads=1)
    together = graphs.encode(SOURCES)
    for row, source in enumerate(SOURCES):
        for name, alone in graphs.encode([source]).feeds.items():
            batched = together.feeds[name][row]
            np.testing.assert_array_equal(batched if "last" in name else batched[:, : len(source)], alone[0])


def test_caches_are_int8_and_near_the_float_ones(
    calibrated: Calibrated, int8_runtime: tuple[GraphPaths, Bundle]
) -> None:
    exact, rough = (
        SteppedGraphs(*paths, pad=0, bos=2, threads=1).encode(SOURCES).feeds["cross_key_0"]
        for paths in (calibrated.fp32, int8_runtime[0])
    )
    assert rough.dtype == np.int8
    scale = np.abs(exact).max(axis=(0, 2), keepdims=True) / 127  # calibrated on these sentences
    np.testing.assert_allclose(rough * scale, exact, atol=0.1 * float(np.abs(exact).max()))
