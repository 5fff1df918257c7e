"""Graphs rewritten for the compiled operators: the same to the bit, and nothing is rewritten that is not meant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dragoman_server.fusing.chain_library import ChainLibrary
from dragoman_server.fusing.fusion import WANTS_LOGITS, fused
from tests.unit.server.kernel_graphs import model, session

MODELS = Path(__file__).parents[3] / "models"
WIDTH = 64


class Layers:
    """Builds a graph of quantised linear maps as an exporter writes it; values are (rows, 1, width)."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"value_{len(self.nodes)}"
        domain = "com.microsoft" if operator == "MatMulIntegerToFloat" else ""
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def norm(self, x: str, width: int = WIDTH) -> str:
        scales, biases = self.random.normal(1, 0.2, (2, width)).astype(np.float32)
        return self.node("LayerNormalization", [x, self.constant(scales), self.constant(biases)], epsilon=1e-5)

    def linear(self, x: str, depth: int = WIDTH, columns: int = WIDTH, *, bias: bool = True, zero: int = 121) -> str:
        scale = self.constant(np.array(0.0213, np.float32))
        zero_point = self.constant(np.array(zero, np.uint8))
        left = self.node("QuantizeLinear", [x, scale, zero_point])
        weights = self.constant(self.random.integers(-127, 128, (depth, columns)).astype(np.int8))
        scales = self.constant(self.random.uniform(0.001, 0.01, columns).astype(np.float32))
        added = ["", self.constant(self.random.normal(size=columns).astype(np.float32))] if bias else []
        return self.node("MatMulIntegerToFloat", [left, weights, scale, scales, zero_point, *added])

    def write(self, path: Path, outputs: list[str], shape: list[Any] | None = None) -> Path:
        values = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["rows", 1, WIDTH])
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        path.write_bytes(model(self.nodes, [values], ports, self.constants))
        return path


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in ModelProto.FromString(graph).graph.node)


def both(path: Path, library: Path) -> tuple[ort.InferenceSession, ort.InferenceSession, Counter[str]]:
    """The graph as it is and as it is rewritten, both with the library's normalisation; and the latter's operators."""
    with fused(path, library) as rewritten:
        return session(path.read_bytes(), library), session(rewritten, library), operators(rewritten)


def agree(plain: ort.InferenceSession, rewritten: ort.InferenceSession, x: npt.NDArray[np.float32]) -> None:
    for expected, found in zip(plain.run(None, {"x": x}), rewritten.run(None, {"x": x}), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(params=["avx512", "avx2"])
def library(compiled: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, held to one instruction set that chains are computed with."""
    monkeypatch.setenv("DRAGOMAN_INSTRUCTION_SET", request.param)
    if not ChainLibrary(compiled).has_chains:
        pytest.skip(f"this processor has no {request.param}, or not all of it")
    return compiled


def layer(layers: Layers, x: str) -> tuple[str, str]:
    """What lies between two attentions: x is the first's result; the residual stream begins with it, too."""
    stream = layers.node("Add", [x, layers.linear(layers.norm(x), zero=128)])
    inner = layers.node("Relu", [layers.linear(layers.norm(stream), columns=256)])
    stream = layers.node("Add", [layers.linear(inner, depth=256, zero=0), stream])
    return stream, layers.linear(layers.norm(stream), columns=3 * WIDTH, bias=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(0, 220), seed=st.integers(0, 3), size=st.sampled_from([0.1, 1.0, 30.0, 1e6]))
def test_a_layer_is_one_node_and_the_same_to_the_bit(
    library: Path, tmp_path: Path, rows: int, seed: int, size: float
) -> None:
    layers = Layers(seed)
    stream, projected = layer(layers, "x")
    plain, rewritten, found = both(layers.write(tmp_path / "layer.onnx", [stream, projected]), library)
    assert found == {"Chain": 1}
    x = np.random.default_rng(seed + 7).normal(scale=size, size=(rows, 1, WIDTH)).astype(np.float32)
    agree(plain, rewritten, x)


@pytest.mark.parametrize("rows", [1, 11, 12, 13, 144, 145])
@pytest.mark.parametrize(("depth", "columns"), [(16, 1), (64, 33), (64, 77), (512, 16)])
def test_products_are_onnxruntimes_to_the_bit(
    library: Path, tmp_path: Path, rows: int, depth: int, columns: int
) -> None:
    layers = Layers(rows)
    path = layers.write(tmp_path / "product.onnx", [layers.linear("x", depth, columns)], ["rows", depth])
    plain, rewritten, found = both(path, library)
    assert found == {"Chain": 1}
    # Halves, which are rounded to the even integer, are among them.
    x = (np.random.default_rng(1).integers(-300, 300, (rows, depth)) * np.float32(0.0213) / 2).astype(np.float32)
    agree(plain, rewritten, x)


def test_a_row_is_the_same_alone(library: Path, tmp_path: Path) -> None:
    layers = Layers()
    stream, projected = layer(layers, "x")
    _, rewritten, _ = both(layers.write(tmp_path / "layer.onnx", [stream, projected]), library)
    x = np.random.default_rng(3).normal(size=(150, 1, WIDTH)).astype(np.float32)
    together = rewritten.run(None, {"x": x})
    for row in (0, 5, 143, 144, 149):
        for alone, all_rows in zip(rewritten.run(None, {"x": x[row : row + 1]}), together, strict=True):
            np.testing.assert_array_equal(alone[0], all_rows[row])


def test_what_comes_from_an_attention_between_is_waited_for(library: Path, tmp_path: Path) -> None:
    """The second map adds what is made of the first one's result elsewhere, so they cannot be one node."""
    layers = Layers()
    first = layers.linear("x")
    elsewhere = layers.linear(layers.node("Tanh", [first]))
    second = layers.node("Add", [layers.linear(first), elsewhere])
    plain, rewritten, found = both(layers.write(tmp_path / "graph.onnx", [second]), library)
    assert found["Chain"] == 3
    agree(plain, rewritten, np.random.default_rng(1).normal(size=(5, 1, WIDTH)).astype(np.float32))


def test_a_result_that_is_read_elsewhere_stays(library: Path, tmp_path: Path) -> None:
    layers = Layers()
    normalized = layers.norm("x")
    product = layers.linear(normalized)
    both_sides = layers.node("Relu", [product])
    last = layers.linear(both_sides)
    outputs = [normalized, product, both_sides, last]
    plain, rewritten, found = both(layers.write(tmp_path / "graph.onnx", outputs), library)
    assert found == {"LayerNormalization": 1, "Chain": 2, "Relu": 1}
    agree(plain, rewritten, np.random.default_rng(1).normal(size=(5, 1, WIDTH)).astype(np.float32))


def test_what_the_kernels_are_not_made_for_stays_as_it_is(library: Path, tmp_path: Path) -> None:
    layers = Layers()
    narrow = layers.linear("x", depth=24)  # no multiple of 16
    path = layers.write(tmp_path / "narrow.onnx", [narrow], ["rows", 24])
    plain, rewritten, found = both(path, library)
    assert found == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}
    agree(plain, rewritten, np.random.default_rng(1).normal(size=(5, 24)).astype(np.float32))

    layers = Layers()
    scaled = layers.node("Add", [layers.linear("x"), layers.constant(np.ones((1, 1, 1), np.float32))])  # not as wide
    plain, rewritten, found = both(layers.write(tmp_path / "broadcast.onnx", [scaled]), library)
    assert found == {"Chain": 1, "Add": 1}
    agree(plain, rewritten, np.random.default_rng(1).normal(size=(5, 1, WIDTH)).astype(np.float32))


def choosing(path: Path, vocabulary: int, k: int) -> Path:
    """The end of a decoder: (rows, 1, width) -> the k best of (rows, vocabulary), and those logits."""
    layers = Layers(vocabulary)
    last = layers.node("Gather", [layers.norm("input_ids"), layers.constant(np.array(0))], axis=1)
    logits = layers.linear(last, columns=vocabulary, bias=False)
    log_probs = layers.node("LogSoftmax", [logits], axis=-1)
    count = layers.constant(np.array([k]))
    layers.nodes.append(helper.make_node("TopK", [log_probs, count], ["top", "ids"], axis=-1))
    # The graph's input has the name that says that there is one token for each row.
    values = helper.make_tensor_value_info("input_ids", TensorProto.FLOAT, ["rows", 1, WIDTH])
    kinds = {"top": TensorProto.FLOAT, "ids": TensorProto.INT64, logits: TensorProto.FLOAT}
    ports = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    path.write_bytes(model(layers.nodes, [values], ports, layers.constants))
    return path


@pytest.mark.parametrize(("vocabulary", "k"), [(17, 5), (64, 16), (300, 16), (2001, 1)])
@pytest.mark.parametrize("rows", [1, 13, 150])
def test_the_best_of_a_product_and_its_logits_only_where_they_are_wanted(
    library: Path, tmp_path: Path, rows: int, vocabulary: int, k: int
) -> None:
    path = choosing(tmp_path / "end.onnx", vocabulary, k)
    with fused(path, library) as graph:
        rewritten = session(graph, library)
        assert operators(graph) == {"Candidates": 1}
    plain = session(path.read_bytes(), library)
    x = np.random.default_rng(rows).normal(size=(rows, 1, WIDTH)).astype(np.float32)
    names = [port.name for port in plain.get_outputs()]
    expected_top, expected_ids, expected_logits = plain.run(names, {"input_ids": x})
    top, ids, logits = rewritten.run(names, {"input_ids": x, WANTS_LOGITS: np.array(1)})
    np.testing.assert_array_equal(logits, expected_logits)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(top, expected_top, rtol=3e-7, atol=2e-6)
    lean_top, lean_ids = rewritten.run(names[:2], {"input_ids": x, WANTS_LOGITS: np.array(0)})
    np.testing.assert_array_equal(lean_top, top)
    np.testing.assert_array_equal(lean_ids, ids)
    for row in {0, rows // 2, rows - 1}:
        alone = rewritten.run(names[:2], {"input_ids": x[row : row + 1], WANTS_LOGITS: np.array(0)})
        np.testing.assert_array_equal(alone[0][0], top[row])
        np.testing.assert_array_equal(alone[1][0], ids[row])


def test_more_candidates_than_the_kernels_keep_stay_onnxruntimes(library: Path, tmp_path: Path) -> None:
    with fused(choosing(tmp_path / "end.onnx", 100, 17), library) as graph:
        assert operators(graph) == {"Chain": 1, "LogSoftmax": 1, "TopK": 1}


def test_other_weights_in_other_sessions_are_kept_apart(library: Path, tmp_path: Path) -> None:
    """Equal weights are packed once for all sessions; a bias may be missing."""
    x = np.random.default_rng(1).normal(size=(5, 1, WIDTH)).astype(np.float32)
    running = []
    for number, (seed, bias) in enumerate([(1, True), (2, True), (1, False)] * 2):
        layers = Layers(seed)
        path = layers.write(tmp_path / f"{number}.onnx", [layers.linear("x", bias=bias)])
        running.append(both(path, library)[:2])
    for plain, rewritten in running:
        agree(plain, rewritten, x)


def test_a_chain_that_was_released_is_not_found_and_sessions_keep_theirs(library: Path, tmp_path: Path) -> None:
    layers = Layers()
    path = layers.write(tmp_path / "graph.onnx", [layers.linear("x")])
    with fused(path, library) as rewritten:
        kept = session(rewritten, library)
    with pytest.raises(Exception, match="Chain: no such chain"):
        session(rewritten, library)
    x = np.ones((3, 1, WIDTH), np.float32)
    np.testing.assert_array_equal(kept.run(None, {"x": x})[0], session(path.read_bytes(), None).run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ("deu-eng/1/int8/encoder.onnx", {"Embedding": 1, "Chain": 6, "PackedAttention": 5}),
        (
            "deu-eng/1/int8/decoder.onnx",
            {
                "Embedding": 1,
                "Chain": 5,
                "GroupQueryAttention": 2,
                "SourceAttention": 2,
                "Candidates": 1,
                "ReduceMean": 0,
            },
        ),
        ("shakespeare/1/int8/decoder.onnx", {"GroupQueryAttention": 3, "Candidates": 1, "Best": 0}),
        ("intents/1/int8/encoder.onnx", {"Embedding": 1, "PackedAttention": 4}),
    ],
)
def test_the_shipped_graphs_are_rewritten_throughout(library: Path, graph: str, expected: dict[str, int]) -> None:
    with fused(MODELS / graph, library) as rewritten:
        found = operators(rewritten)
    assert {name: found[name] for name in expected} == expected
    assert not found.keys() & {"MatMulIntegerToFloat", "LogSoftmax", "TopK", "MultiHeadAttention", "Split"}
