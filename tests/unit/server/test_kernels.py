"""The compiled operators against numpy and against onnxruntime's own, on every instruction set of this processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from dragoman_server.packing import pack
from tests.unit.server.kernel_graphs import Case, model, session

RAGGED = [20, 3, 11, 1, 40, 17, 4, 16, 32, 33]


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


def packed_encoding(heads: int) -> bytes:
    inputs = {"packed": TensorProto.FLOAT, "places": TensorProto.INT64, "mask": TensorProto.INT32}
    node = helper.make_node("PackedAttention", list(inputs), ["output"], domain="dragoman", num_heads=heads)
    ports = [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()]
    return model([node], ports, [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)])


def laid_out(lengths: list[int]) -> dict[str, npt.NDArray[Any]]:
    """Places and mask of texts that lie side by side."""
    feeds = pack([[7] * length for length in lengths]).feeds
    return {"places": feeds["padded_index"], "mask": feeds["attention_mask"]}


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 64), (8, 32), (3, 48)])
def test_attention_of_texts(library: Path, heads: int, head_dim: int) -> None:
    hidden = heads * head_dim
    packed = np.random.default_rng(3).normal(size=(sum(RAGGED), 3 * hidden)).astype(np.float32)
    layout = laid_out(RAGGED)
    running = session(packed_encoding(heads), library)
    (found,) = running.run(None, {"packed": packed, **layout})
    padded = dict(zip(("query", "key", "value"), np.split(packed[layout["places"]], 3, axis=2), strict=True))
    (builtin,) = session(encoding(heads), None).run(None, {**padded, "mask": layout["mask"]})
    np.testing.assert_allclose(found, builtin[layout["mask"] == 1], rtol=0, atol=5e-6)
    ends = np.cumsum(RAGGED)
    for length, end in zip(RAGGED, ends, strict=True):
        (alone,) = running.run(None, {"packed": packed[end - length : end], **laid_out([length])})
        np.testing.assert_array_equal(alone, found[end - length : end])


@pytest.mark.parametrize(
    ("places", "mask", "why"),
    [
        ([[0, 1, 2]], [[1, 0, 1]], "padding must come last"),
        ([[1, 2, 2]], [[1, 1, 0]], "texts must follow one another"),
        ([[0, 1, 0]], [[1, 1, 0]], "all tokens must be of a text"),
        ([[0, 1, 2, 3]], [[1, 1, 1, 1]], "texts must follow one another"),
        ([[0, 1, 2]], [[1, 1]], "the mask must be of the places"),
    ],
)
def test_texts_that_do_not_lie_side_by_side_are_refused(
    compiled: Path, places: list[list[int]], mask: list[list[int]], why: str
) -> None:
    feeds = {"packed": np.ones((3, 192), np.float32), "places": np.array(places), "mask": np.array(mask, np.int32)}
    with pytest.raises(Exception, match=f"PackedAttention: {why}"):
        session(packed_encoding(4), compiled).run(None, feeds)


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
    """By the operator of the library, or by onnxruntime's two."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.INT64, [1], [k])),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("TopK", ["log_probs", "k"], ["top", "ids"], axis=-1),
    ]
    if library is not None:
        nodes = [helper.make_node("Best", ["logits"], ["top", "ids"], domain="dragoman", k=k)]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "vocabulary"])
    kinds = {"top": TensorProto.FLOAT, "ids": TensorProto.INT64}
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    return session(model(nodes, [logits], outputs), library)


@pytest.mark.parametrize(
    ("size", "k"), [(1, 1), (5, 5), (16, 3), (100, 16), (255, 16), (300, 13), (1000, 1), (1039, 16), (8000, 16)]
)
def test_the_best_log_probabilities(library: Path, size: int, k: int) -> None:
    logits = np.random.default_rng(size).normal(scale=6, size=(9, size)).astype(np.float32)
    top, ids = choosing(k, library).run(None, {"logits": logits})
    greatest = logits.max(axis=1, keepdims=True).astype(np.float64)
    expected = logits - greatest - np.log(np.exp(logits - greatest).sum(axis=1, keepdims=True))
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(top, np.take_along_axis(expected, order, axis=1), rtol=3e-7, atol=2e-6)


def test_equal_candidates_come_by_their_ids_as_onnxruntimes_do(library: Path) -> None:
    logits = np.random.default_rng(1).integers(0, 4, (20, 777)).astype(np.float32)
    _, ids = choosing(16, library).run(None, {"logits": logits})
    np.testing.assert_array_equal(ids, np.argsort(-logits, axis=1, kind="stable")[:, :16])
    np.testing.assert_array_equal(ids, choosing(16, None).run(None, {"logits": logits})[1])


def test_impossible_candidates_and_no_numbers(library: Path) -> None:
    logits = np.full((4, 500), -np.inf, np.float32)
    logits[0, 7] = 1
    logits[1, ::3] = 2
    logits[2] = np.nan
    logits[3] = np.random.default_rng(2).normal(size=500)
    logits[3, 123] = np.nan
    top, ids = choosing(16, library).run(None, {"logits": logits})
    assert top[0, 0] == 0
    assert ids[0, 0] == 7
    assert (top[0, 1:] == -np.inf).all()
    assert ids[1].tolist() == list(range(0, 48, 3))
    np.testing.assert_allclose(top[1], -np.log(167), rtol=1e-6)
    assert not np.isfinite(top[2:, 0]).any()  # one number that is none spoils its row, as with onnxruntime
    assert ((ids >= 0) & (ids < 500)).all()
