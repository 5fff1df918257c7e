"""The compiled operators against numpy and against onnxruntime's own, on every instruction set of this processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dragoman_server.compiled_kernels import open_library
from tests.unit.server.kernel_graphs import Case, model, session

RAGGED = [20, 3, 11, 1, 40, 17, 4, 16, 32, 33]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def library(compiled: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, held to one instruction set."""
    monkeypatch.setenv("DRAGOMAN_INSTRUCTION_SET", request.param)
    if open_library(compiled).instructions != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return compiled


@pytest.mark.parametrize(
    "case",
    [
        Case(RAGGED, heads=4, head_dim=64),
        Case(RAGGED, heads=8, head_dim=32),
        Case(RAGGED, heads=2, head_dim=80),
        Case(RAGGED, heads=4, key_heads=2, head_dim=64),
        Case(RAGGED, heads=6, key_heads=1, head_dim=16, packed=False),
        Case(RAGGED, heads=4, head_dim=64, packed=False),
        Case([9], heads=4, head_dim=64, tokens=9),
        Case([30], heads=4, head_dim=32, tokens=7),
        Case([200, 1, 2, 199], heads=2, head_dim=64, capacity=200),
    ],
    ids=["heads-of-64", "heads-of-32", "heads-of-80", "grouped", "one-key-head", "apart", "prompt", "chunk", "long"],
)
def test_attention(library: Path, case: Case) -> None:
    found, builtin, expected = case.run(library), case.run(None), case.reference()
    np.testing.assert_array_equal(found.keys, builtin.keys)
    np.testing.assert_array_equal(found.values, builtin.values)
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_allclose(found.output, expected.output, rtol=0, atol=3e-6)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.output, builtin.output, rtol=0, atol=1e-5)


def test_attention_of_a_row_is_the_same_alone_to_the_bit(library: Path) -> None:
    case = Case(RAGGED, heads=4, head_dim=64)
    together = case.run(library)
    for row in range(len(RAGGED)):
        alone = case.row(row).run(library)
        np.testing.assert_array_equal(alone.output[0], together.output[row])
        np.testing.assert_array_equal(alone.weights[0], together.weights[row, :, :, : RAGGED[row]])


def test_caches_apart_are_copied_and_the_past_is_left_alone(library: Path) -> None:
    case = Case(RAGGED, heads=4, head_dim=64)
    past_key, past_value, expected = case.past_key.copy(), case.past_value.copy(), case.reference()
    output, keys, values, _ = session(case.model(), library).run(None, case.feeds())
    np.testing.assert_array_equal(keys, expected.keys)
    np.testing.assert_array_equal(values, expected.values)
    np.testing.assert_allclose(output, expected.output, rtol=0, atol=3e-6)
    np.testing.assert_array_equal(case.past_key, past_key)
    np.testing.assert_array_equal(case.past_value, past_value)


def test_scores_of_any_size(library: Path) -> None:
    """Keys that are hundreds apart: only the greatest counts, and nothing overflows."""
    case = Case([12, 5], heads=2, head_dim=64)
    case.query *= 1000
    found, expected = case.run(library), case.reference()
    assert expected.weights.max() == 1.0
    np.testing.assert_allclose(found.output, expected.output, rtol=0, atol=1e-4)
    assert np.isfinite(found.output).all()


@pytest.mark.parametrize(
    "attributes",
    [{"do_rotary": 1}, {"local_window_size": 4}, {"softcap": 5.0}, {"k_quant_type": "PER_TENSOR"}, {"qk_output": 1}],
    ids=lambda attributes: next(iter(attributes)),
)
def test_what_the_attention_does_not_do_is_refused_with_the_session(compiled: Path, attributes: dict[str, Any]) -> None:
    case = Case([3], heads=4, head_dim=64)
    with pytest.raises(Exception, match=f"GroupQueryAttention: attribute {next(iter(attributes))}"):
        session(case.model(**attributes), compiled)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("lengths", np.array([40, 2], np.int32), "length"),
        ("lengths", np.array([-1, 2], np.int32), "length"),
        ("total", np.array(2, np.int32), "length"),
        ("lengths", np.array([1], np.int32), "rows"),
        ("key_scales", np.ones(1, np.float32), "scale"),
        ("query", np.zeros((2, 1, 256), np.float32), "width"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(compiled: Path, name: str, value: npt.NDArray[Any], why: str) -> None:
    case = Case([7, 3], heads=4, head_dim=64)
    with pytest.raises(Exception, match=f"GroupQueryAttention: .*{why}"):
        session(case.model(), compiled).run(None, case.feeds() | {name: value})


def encoding(heads: int, **attributes: Any) -> bytes:
    names = ["query", "key", "value"]
    node = helper.make_node(
        "MultiHeadAttention", [*names, "", "mask"], ["output"], domain="com.microsoft", num_heads=heads, **attributes
    )
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    mask = helper.make_tensor_value_info("mask", TensorProto.INT32, None)
    return model([node], [*inputs, mask], [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)])


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 64), (8, 32), (3, 48)])
def test_attention_of_texts(library: Path, heads: int, head_dim: int) -> None:
    random, shape = np.random.default_rng(3), (len(RAGGED), max(RAGGED), heads * head_dim)
    mask = (np.arange(shape[1]) < np.array(RAGGED)[:, None]).astype(np.int32)
    feeds = {name: random.normal(size=shape).astype(np.float32) for name in ("query", "key", "value")}
    running = session(encoding(heads), library)
    (found,) = running.run(None, feeds | {"mask": mask})
    (builtin,) = session(encoding(heads), None).run(None, feeds | {"mask": mask})
    np.testing.assert_allclose(found[mask == 1], builtin[mask == 1], rtol=0, atol=5e-6)
    assert not found[mask == 0].any()
    for text, length in enumerate(RAGGED):
        alone = {name: array[text : text + 1, :length] for name, array in feeds.items()}
        (by_itself,) = running.run(None, alone | {"mask": np.ones((1, length), np.int32)})
        np.testing.assert_array_equal(by_itself[0], found[text, :length])


def test_padding_between_tokens_is_refused(compiled: Path) -> None:
    feeds: dict[str, npt.NDArray[Any]] = {name: np.ones((1, 3, 64), np.float32) for name in ("query", "key", "value")}
    feeds["mask"] = np.array([[1, 0, 1]], np.int32)
    with pytest.raises(Exception, match="MultiHeadAttention: padding must come last"):
        session(encoding(4), compiled).run(None, feeds)


def multiplying(depth: int, columns: int, *, bias: bool = True, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    constants: dict[str, npt.NDArray[Any]] = {
        "weights": random.integers(-128, 128, (depth, columns)).astype(np.int8),
        "scale": np.array(0.0213, np.float32),
        "scales": random.uniform(0.001, 0.01, columns).astype(np.float32),
        "zero_point": np.array(121, np.uint8),
        "bias": random.normal(size=columns).astype(np.float32),
    }
    names = ["left", "weights", "scale", "scales", "zero_point", *(["", "bias"] if bias else [])]
    return model(
        [helper.make_node("MatMulIntegerToFloat", names, ["output"], domain="com.microsoft")],
        [helper.make_tensor_value_info("left", TensorProto.UINT8, None)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


@pytest.mark.parametrize("rows", [*range(1, 15), 64])
@pytest.mark.parametrize(("depth", "columns"), [(64, 32), (30, 77), (254, 100), (512, 16)])
def test_products_are_onnxruntimes_to_the_bit(compiled: Path, rows: int, depth: int, columns: int) -> None:
    graph = multiplying(depth, columns)
    left = np.random.default_rng(rows).integers(0, 256, (2, rows, depth)).astype(np.uint8)
    (found,) = session(graph, compiled).run(None, {"left": left})
    (builtin,) = session(graph, None).run(None, {"left": left})
    np.testing.assert_array_equal(found, builtin)


def test_products_with_other_weights_in_other_sessions(compiled: Path) -> None:
    """Equal weights are packed once for all sessions, others are kept apart; a bias may be missing."""
    graphs = [multiplying(64, 40, seed=1), multiplying(64, 40, seed=2), multiplying(64, 40, seed=1, bias=False)]
    left = np.random.default_rng(1).integers(0, 256, (5, 64)).astype(np.uint8)
    sessions = [session(graph, compiled) for graph in graphs * 2]
    for running, graph in zip(sessions, graphs * 2, strict=True):
        (expected,) = session(graph, None).run(None, {"left": left})
        for _ in range(2):
            np.testing.assert_array_equal(running.run(None, {"left": left})[0], expected)


@pytest.mark.parametrize("size", [1, 16, 40, 256])
def test_normalization(library: Path, size: int) -> None:
    ports = ["values", "scales", "biases"]
    node = helper.make_node("LayerNormalization", ports, ["output"], epsilon=1e-5)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ports]
    graph = model([node], inputs, [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)])
    random = np.random.default_rng(size)
    values = random.normal(loc=3, scale=4, size=(2, 5, size)).astype(np.float32)
    scales, biases = random.normal(size=(2, size)).astype(np.float32)
    (found,) = session(graph, library).run(None, {"values": values, "scales": scales, "biases": biases})
    apart = values - values.mean(axis=2, keepdims=True, dtype=np.float64)
    expected = apart / np.sqrt((apart**2).mean(axis=2, keepdims=True) + 1e-5) * scales + biases
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)


def choosing(k: int, library: Path | None) -> ort.InferenceSession:
    nodes = [
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.INT64, [1], [k])),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("TopK", ["log_probs", "k"], ["top", "ids"], axis=-1),
    ]
    kinds = {"log_probs": TensorProto.FLOAT, "top": TensorProto.FLOAT, "ids": TensorProto.INT64}
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "vocabulary"])
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    return session(model(nodes, [logits], outputs), library)


@pytest.mark.parametrize(("size", "k"), [(1, 1), (5, 5), (16, 3), (100, 16), (1000, 1), (1039, 16), (8000, 16)])
def test_log_softmax_and_top_k(library: Path, size: int, k: int) -> None:
    logits = np.random.default_rng(size).normal(scale=6, size=(9, size)).astype(np.float32)
    log_probs, top, ids = choosing(k, library).run(None, {"logits": logits})
    greatest = logits.max(axis=1, keepdims=True).astype(np.float64)
    expected = logits - greatest - np.log(np.exp(logits - greatest).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probs, expected, rtol=3e-7, atol=2e-6)
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(top, np.take_along_axis(log_probs, order, axis=1))


def test_equal_candidates_come_by_their_ids_as_onnxruntimes_do(library: Path) -> None:
    logits = np.random.default_rng(1).integers(0, 4, (20, 777)).astype(np.float32)
    _, _, ids = choosing(16, library).run(None, {"logits": logits})
    np.testing.assert_array_equal(ids, np.argsort(-logits, axis=1, kind="stable")[:, :16])
    np.testing.assert_array_equal(ids, choosing(16, None).run(None, {"logits": logits})[2])


def test_impossible_candidates_and_no_numbers_at_all(library: Path) -> None:
    logits = np.full((3, 500), -np.inf, np.float32)
    logits[0, 7] = 1
    logits[1, ::3] = 2
    logits[2] = np.nan
    _, top, ids = choosing(16, library).run(None, {"logits": logits})
    assert top[0, 0] == 0
    assert ids[0, 0] == 7
    assert (top[0, 1:] == -np.inf).all()
    assert ids[1].tolist() == list(range(0, 48, 3))
    assert ((ids >= 0) & (ids < 500)).all()
