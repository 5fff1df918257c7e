"""The attention to sources that rows have in common, against the one that takes every row by itself: the same bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dragoman_server.fusing.attentions import ORIGINS, WANTS_ATTENTION
from dragoman_server.fusing.fusion import fused
from dragoman_server.row_memory import HostCaches, HostMemory, Part
from tests.unit.server.kernel_graphs import model, session

SHARED = [5, 0, 0, -1, 5, 5, 1024, 0, 5, 5, -1, 7]
"""Origins: of five rows, of three, of rows by themselves; 0 and 1024 have their last bits in common."""
LENGTHS = {5: 30, 0: 3, -1: 1, 1024: 9, 7: 40}
CAPACITY = 40


def decoder(
    path: Path,
    heads: int,
    head_dim: int,
    *,
    key_heads: int = 0,
    prefix: str = "cross_",
    axes: list[int] | None = None,
) -> Path:
    """One attention to sources, as an exporter writes it; with ``axes``, the mean of its weights over these."""
    names = [f"{prefix}{name}" for name in ("last_key_0", "last_value_0", "key_0", "value_0", "lengths", "total")]
    node = helper.make_node(
        "GroupQueryAttention",
        ["query", *names, "", "", "", "", "", "key_scales", "value_scales"],
        ["output", "present_key", "present_value", "weights"],
        domain="com.microsoft",
        num_heads=heads,
        kv_num_heads=key_heads or heads,
        k_quant_type="PER_CHANNEL",
        v_quant_type="PER_CHANNEL",
        kv_cache_bit_width=8,
        qk_output=2,
    )
    width = ["rows", 1, heads * head_dim]
    cache = ["rows", key_heads or heads, "capacity", head_dim]
    floats, bytes_, integers = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32
    kinds: dict[str, tuple[int, list[Any] | None]] = {"query": (floats, width)}
    shapes: list[tuple[int, list[Any] | None]]
    shapes = [(floats, width), (floats, width), (bytes_, cache), (bytes_, cache), (integers, ["rows"]), (integers, [])]
    kinds |= dict(zip(names, shapes, strict=True)) | {"key_scales": (floats, None), "value_scales": (floats, None)}
    outputs = {"output": floats, "present_key": bytes_, "present_value": bytes_, "weights": floats}
    nodes, constants = [node], []
    if axes is not None:
        nodes.append(helper.make_node("ReduceMean", ["weights", "axes"], ["mean"], keepdims=0))
        constants.append(numpy_helper.from_array(np.array(axes), "axes"))
        outputs["mean"] = outputs.pop("weights")
    path.write_bytes(
        model(
            nodes,
            [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
            constants,
        )
    )
    return path


def both(path: Path, library: Path) -> tuple[ort.InferenceSession, ort.InferenceSession, Counter[str]]:
    """The graph as it is and as it is rewritten, and the latter's operators."""
    with fused(path, library) as graph:
        rewritten = session(graph, library)
    return (
        session(path.read_bytes(), library),
        rewritten,
        Counter(n.op_type for n in ModelProto.FromString(graph).graph.node),
    )


class Sources:
    """Rows, and sources that some of them share."""

    def __init__(self, heads: int, head_dim: int) -> None:
        random = np.random.default_rng(heads)
        rows, shape = len(SHARED), (heads, CAPACITY, head_dim)
        drawn = {origin: random.integers(-128, 128, (2, *shape)).astype(np.int8) for origin in set(SHARED)}
        self.caches = np.stack([drawn[origin] for origin in SHARED], axis=1)  # (2, rows, heads, capacity, head_dim)
        self.lengths = np.array([LENGTHS[origin] - 1 for origin in SHARED], np.int32)
        self.query = random.normal(size=(rows, 1, heads * head_dim)).astype(np.float32)
        self.scales = random.uniform(0.005, 0.03, (2, heads * head_dim)).astype(np.float32)

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """By the graph's names, caches left out."""
        rows = np.arange(len(SHARED))
        last = self.caches[:, rows, :, self.lengths].swapaxes(0, 1).reshape(2, len(rows), 1, -1)
        numbers = last * self.scales[:, None, None]
        return {
            "query": self.query,
            "cross_last_key_0": numbers[0],
            "cross_last_value_0": numbers[1],
            "cross_lengths": self.lengths,
            "cross_total": np.array(self.lengths.max() + 1, np.int32),
            "key_scales": self.scales[0],
            "value_scales": self.scales[1],
        }

    def run(self, running: ort.InferenceSession, origins: list[int] | None = None) -> list[npt.NDArray[Any]]:
        """Outputs, weights within the rows' lengths, and the caches afterwards."""
        caches = self.caches.copy()
        names = ("key", "value")
        parts = [
            Part(f"cross_{name}_0", f"present_{name}", HostCaches(caches[at : at + 1]), 0)
            for at, name in enumerate(names)
        ]
        rows, _, hidden = self.query.shape
        shape = rows, caches.shape[2], 1, self.lengths.max() + 1
        outputs = {"output": np.zeros((rows, 1, hidden), np.float32), "weights": np.zeros(shape, np.float32)}
        feeds = self.feeds() | ({} if origins is None else {ORIGINS: np.array(origins)})
        HostMemory().bind(running, rows, feeds, parts, outputs).run()
        within = np.arange(shape[-1]) <= self.lengths[:, None]
        return [outputs["output"], np.where(within[:, None, None], outputs["weights"], 0), caches]


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 64), (8, 32), (3, 80), (6, 64)])
def test_rows_that_share_a_source_get_what_each_gets_by_itself(
    library: Path, tmp_path: Path, heads: int, head_dim: int
) -> None:
    plain, rewritten, operators = both(decoder(tmp_path / "decoder.onnx", heads, head_dim), library)
    assert operators == {"SourceAttention": 1}
    sources = Sources(heads, head_dim)
    expected = sources.run(plain)
    for origins in (SHARED, [-1] * len(SHARED), list(range(len(SHARED)))):
        for found, wanted in zip(sources.run(rewritten, origins), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_source_is_read_where_its_first_row_has_it(library: Path, tmp_path: Path) -> None:
    _, rewritten, _ = both(decoder(tmp_path / "decoder.onnx", 4, 64), library)
    sources = Sources(4, 64)
    expected = sources.run(rewritten, SHARED)[0]
    sources.caches[:, [4, 5, 8]] = 77  # rows of origin 5, whose first row is 0; a fifth one begins anew
    np.testing.assert_array_equal(sources.run(rewritten, SHARED)[0], expected)
    sources.caches[:, 9] = 77
    changed = (sources.run(rewritten, SHARED)[0] != expected).any(axis=(1, 2))
    assert changed.nonzero()[0].tolist() == [9]


@pytest.mark.parametrize("heads", [4, 6])
def test_the_mean_of_the_heads_is_given_where_it_is_wanted(library: Path, tmp_path: Path, heads: int) -> None:
    plain, rewritten, operators = both(decoder(tmp_path / "decoder.onnx", heads, 64, axes=[1, 2]), library)
    assert operators == {"SourceAttention": 1}
    sources = Sources(heads, 64)
    caches = {"cross_key_0": sources.caches[0], "cross_value_0": sources.caches[1]}
    given = sources.feeds() | caches
    (expected,) = plain.run(["mean"], given)
    within = np.arange(expected.shape[1]) <= sources.lengths[:, None]
    for origins in (SHARED, [-1] * len(SHARED)):
        asked = given | {ORIGINS: np.array(origins), WANTS_ATTENTION: np.array(1)}
        output, mean = rewritten.run(["output", "mean"], asked)
        np.testing.assert_allclose(mean, np.where(within, expected, 0), rtol=3e-7, atol=1e-7)
        assert mean.sum(axis=1) == pytest.approx(1)
        (alone,) = rewritten.run(["output"], asked | {WANTS_ATTENTION: np.array(0)})
        np.testing.assert_array_equal(alone, output)


def test_another_mean_stays_as_it_is(compiled: Path, tmp_path: Path) -> None:
    _, _, operators = both(decoder(tmp_path / "decoder.onnx", 4, 64, axes=[1, 3]), compiled)
    assert operators == {"SourceAttention": 1, "ReduceMean": 1}


@pytest.mark.parametrize("graph", [{"prefix": "past_"}, {"key_heads": 2}], ids=["own-tokens", "grouped"])
def test_other_attention_stays_as_it_is(compiled: Path, tmp_path: Path, graph: dict[str, Any]) -> None:
    _, _, operators = both(decoder(tmp_path / "decoder.onnx", 4, 64, **graph), compiled)
    assert operators == {"GroupQueryAttention": 1}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("cross_lengths", np.full(len(SHARED), 40, np.int32), "length"),
        ("cross_lengths", np.full(len(SHARED), -1, np.int32), "length"),
        ("cross_total", np.array(2, np.int32), "length"),
        ("key_scales", np.ones(1, np.float32), "scale"),
        (ORIGINS, np.zeros(2, np.int64), "origin"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    compiled: Path, tmp_path: Path, name: str, value: npt.NDArray[Any], why: str
) -> None:
    _, rewritten, _ = both(decoder(tmp_path / "decoder.onnx", 4, 64), compiled)
    sources = Sources(4, 64)
    caches = {"cross_key_0": sources.caches[0], "cross_value_0": sources.caches[1]}
    feeds = {ORIGINS: np.array(SHARED)} | sources.feeds() | caches | {name: value}
    with pytest.raises(Exception, match=f"SourceAttention: .*{why}"):
        rewritten.run(None, feeds)
