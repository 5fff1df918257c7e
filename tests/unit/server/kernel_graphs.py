"""Graphs of one operator each, as a decoder holds them, and numpy's answer to the attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper

from dragoman_server.row_memory import HostCaches, HostMemory, Part
from dragoman_server.session_options import processor_options

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]


def session(model: bytes, library: Path | None) -> ort.InferenceSession:
    """One thread; with the compiled operators, or without."""
    options = processor_options()
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()) -> bytes:
    """A whole ONNX file."""
    graph = helper.make_graph(nodes, "operator", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(name, 1) for name in ("com.microsoft", "dragoman"))]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def attention_model(heads: int, key_heads: int, *, packed: bool, **attributes: Any) -> bytes:
    """GroupQueryAttention over 8-bit caches with a scale for each channel, and its weights."""
    names = ["query", *(["", ""] if packed else ["key", "value"]), "past_key", "past_value", "lengths", "total"]
    inputs = {name: TensorProto.FLOAT for name in names if name and name not in {"lengths", "total"}}
    inputs |= {"past_key": TensorProto.INT8, "past_value": TensorProto.INT8}
    inputs |= {"lengths": TensorProto.INT32, "total": TensorProto.INT32}
    inputs |= {"key_scales": TensorProto.FLOAT, "value_scales": TensorProto.FLOAT}
    node = helper.make_node(
        "GroupQueryAttention",
        [*names, "", "", "", "", "", "key_scales", "value_scales"],
        ["output", "present_key", "present_value", "weights"],
        domain="com.microsoft",
        **{
            "num_heads": heads,
            "kv_num_heads": key_heads,
            "k_quant_type": "PER_CHANNEL",
            "v_quant_type": "PER_CHANNEL",
            "kv_cache_bit_width": 8,
            "qk_output": 2,
            **attributes,
        },
    )
    outputs = {"output": TensorProto.FLOAT, "present_key": TensorProto.INT8, "present_value": TensorProto.INT8}
    outputs["weights"] = TensorProto.FLOAT
    return model(
        [node],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )


class Attended(NamedTuple):
    """What attention gives and leaves behind."""

    output: Floats  # (rows, tokens, hidden)
    keys: Bytes  # (rows, key heads, capacity, head_dim)
    values: Bytes
    weights: Floats  # (rows, heads, tokens, longest)


class Case:
    """Rows of different lengths, drawn at random: what attention is given."""

    def __init__(
        self,
        lengths: list[int],
        *,
        heads: int,
        head_dim: int,
        key_heads: int | None = None,
        tokens: int = 1,
        capacity: int = 40,
        packed: bool = True,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.heads, self.key_heads = heads, key_heads or heads
        self.head_dim, self.tokens, self.capacity, self.packed = head_dim, tokens, capacity, packed
        rows, width = len(lengths), self.key_heads * head_dim
        self.query = random.normal(size=(rows, tokens, heads * head_dim)).astype(np.float32)
        self.key = random.normal(size=(rows, tokens, width)).astype(np.float32)
        self.value = random.normal(size=(rows, tokens, width)).astype(np.float32)
        shape = rows, self.key_heads, capacity, head_dim
        self.past_key = random.integers(-128, 128, shape).astype(np.int8)
        self.past_value = random.integers(-128, 128, shape).astype(np.int8)
        self.key_scales = random.uniform(0.005, 0.03, width).astype(np.float32)
        self.value_scales = random.uniform(0.005, 0.03, width).astype(np.float32)
        self.lengths = np.array(lengths, np.int32)
        """With the new tokens."""

    def row(self, index: int) -> Case:
        """One of the rows by itself."""
        alone = Case.__new__(Case)
        alone.__dict__.update(self.__dict__)
        for name in ("query", "key", "value", "past_key", "past_value", "lengths"):
            setattr(alone, name, getattr(self, name)[index : index + 1].copy())
        return alone

    def model(self, **attributes: Any) -> bytes:
        """The graph for this case."""
        return attention_model(self.heads, self.key_heads, packed=self.packed, **attributes)

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """By the graph's names."""
        new = {"query": self.query, "key": self.key, "value": self.value}
        if self.packed:
            new = {"query": np.concatenate(list(new.values()), axis=2)}
        return new | {
            "past_key": self.past_key,
            "past_value": self.past_value,
            "lengths": self.lengths - 1,
            "total": np.array(self.lengths.max(), np.int32),
            "key_scales": self.key_scales,
            "value_scales": self.value_scales,
        }

    def run(self, library: Path | None) -> Attended:
        """By onnxruntime, in place: with the compiled operators, or without.

        The case's own caches stay as they are. Weights beyond a row's length are put to 0.
        """
        feeds = self.feeds()
        caches = {name: feeds.pop(f"past_{name}").copy() for name in ("key", "value")}
        parts = [Part(f"past_{name}", f"present_{name}", HostCaches(cache[None]), 0) for name, cache in caches.items()]
        rows, tokens, hidden = self.query.shape
        outputs = {
            "output": np.zeros((rows, tokens, hidden), np.float32),
            "weights": np.zeros((rows, self.heads, tokens, self.lengths.max()), np.float32),
        }
        running = session(self.model(), library)
        HostMemory().bind(running, rows, feeds, parts, outputs).run()
        for row, length in enumerate(self.lengths):
            outputs["weights"][row, :, :, length:] = 0
        return Attended(outputs["output"], caches["key"], caches["value"], outputs["weights"])

    def reference(self) -> Attended:
        """By numpy, in double precision."""
        keys, values = self.past_key.copy(), self.past_value.copy()
        rows, tokens, longest = len(self.lengths), self.tokens, int(self.lengths.max())
        output = np.zeros((rows, tokens, self.heads, self.head_dim))
        weights = np.zeros((rows, self.heads, tokens, longest))
        scales = [scale.reshape(self.key_heads, self.head_dim) for scale in (self.key_scales, self.value_scales)]
        for row, length in enumerate(self.lengths):
            for token in range(tokens):
                at = length - tokens + token
                for cache, new, scale in zip((keys, values), (self.key, self.value), scales, strict=True):
                    given = new[row, token].reshape(self.key_heads, self.head_dim)
                    cache[row, :, at] = np.clip(np.rint(given / scale), -128, 127).astype(np.int8)
                query = self.query[row, token].reshape(self.heads, self.head_dim).astype(np.float64)
                for head in range(self.heads):
                    own = head * self.key_heads // self.heads
                    key = keys[row, own, : at + 1] * scales[0][own].astype(np.float64)
                    scores = key @ query[head] / np.sqrt(self.head_dim)
                    share = np.exp(scores - scores.max())
                    share /= share.sum()
                    weights[row, head, token, : at + 1] = share
                    output[row, token, head] = share @ (values[row, own, : at + 1] * scales[1][own].astype(np.float64))
        hidden = output.reshape(rows, tokens, -1)
        return Attended(hidden.astype(np.float32), keys, values, weights.astype(np.float32))
