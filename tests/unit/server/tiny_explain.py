"""A tiny explain.onnx of any family with random weights, straight from ONNX operators; its layers do not build on each
other, but its weights are softmaxed, masked and causal as they must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tests.unit.server import tiny


def build_explain(
    vocabulary: int, encoder_layers: int, decoder_layers: int, *, segments: bool = False
) -> onnx.ModelProto:
    """The family is what the layers say: both, or one of them 0."""
    both = bool(encoder_layers and decoder_layers)
    g = tiny.Graph(seed=5)
    source = "source_ids" if both else "input_ids"
    target = "target_ids" if both else "input_ids"
    lengths = "source_lengths" if both else "lengths"
    embedding = g.weight(vocabulary, tiny.D_MODEL, scale=1.0)
    inputs, outputs = [], []
    if encoder_layers:
        inputs.append(tiny.info(source, TensorProto.INT64, "batch", "source"))
        if segments:
            inputs.append(tiny.info("segments", TensorProto.INT64, "batch", "source"))
        inputs.append(tiny.info(lengths, TensorProto.INT32, "batch"))
        x = g.op("Gather", [embedding, source])
        if segments:
            x = g.op("Add", [x, g.op("Gather", [g.weight(2, tiny.D_MODEL, scale=1.0), "segments"])])
        places = _places(g, source)  # (1, source)
        real = g.op("Less", [places, g.op("Unsqueeze", [lengths, _axes(g, 1)])])  # (batch, source)
        keys = g.op("Unsqueeze", [real, _axes(g, 1)])  # (batch, 1, source)
        _stack(g, x, x, keys, encoder_layers, "encoder_self")
        outputs.append(_output("encoder_self", encoder_layers, "source", "source"))
    if decoder_layers:
        inputs.append(tiny.info(target, TensorProto.INT64, "batch", "target"))
        y = g.op("Gather", [embedding, target])
        places = _places(g, target)  # (1, target)
        queries = g.op("Transpose", [places], perm=[1, 0])
        causal = g.op("Unsqueeze", [g.op("LessOrEqual", [places, queries]), _axes(g, 0)])  # (1, target, target)
        _stack(g, y, y, causal, decoder_layers, "decoder_self")
        outputs.append(_output("decoder_self", decoder_layers, "target", "target"))
    if both:
        _stack(g, y, x, keys, decoder_layers, "cross")
        outputs.append(_output("cross", decoder_layers, "target", "source"))
    return g.model(inputs, outputs)


def _axes(g: tiny.Graph, axis: int) -> str:
    return g.constant(np.array([axis], np.int64))


def _places(g: tiny.Graph, ids: str) -> str:
    """(1, time): 0, 1, 2 and so on, int32."""
    time = g.op("Squeeze", [g.op("Slice", [g.op("Shape", [ids]), _axes(g, 1), _axes(g, 2)]), _axes(g, 0)])
    zero, one = g.constant(np.array(0, np.int64)), g.constant(np.array(1, np.int64))
    counted = g.op("Cast", [g.op("Range", [zero, time, one])], to=TensorProto.INT32)
    return g.op("Unsqueeze", [counted, _axes(g, 0)])


def _stack(g: tiny.Graph, x: str, memory: str, seen: str, layers: int, name: str) -> None:  # noqa: PLR0917
    stacked = []
    for _ in range(layers):
        heads = []
        for _ in range(tiny.HEADS):
            keys = g.op("Transpose", [g.linear(memory, tiny.HEAD_DIM)], perm=[0, 2, 1])
            scores = g.op("MatMul", [g.linear(x, tiny.HEAD_DIM), keys])
            hidden = g.op("Where", [seen, scores, g.constant(np.float32(-1e30))])
            zeroed = g.op("Where", [seen, g.op("Softmax", [hidden], axis=-1), g.constant(np.float32(0))])
            heads.append(g.op("Unsqueeze", [zeroed, _axes(g, 1)]))
        stacked.append(g.op("Unsqueeze", [g.op("Concat", heads, axis=1), _axes(g, 1)]))
    g.op("Concat", stacked, [name], axis=1)


def _output(name: str, layers: int, queries: str, keys: str) -> onnx.ValueInfoProto:
    info: onnx.ValueInfoProto = tiny.info(name, TensorProto.FLOAT, "batch", layers, tiny.HEADS, queries, keys)
    return info


def add_explain(root: Path) -> Path:
    """Give the bundle in ``root`` an explain.onnx that fits its manifest, and list it."""
    manifest = tiny.read_manifest(root)
    dimensions = manifest["dimensions"]
    graph = build_explain(
        dimensions["vocabulary"],
        dimensions.get("encoderLayers", 0),
        dimensions.get("decoderLayers", 0),
        segments=bool(dimensions.get("segments")),
    )
    (root / "explain.onnx").write_bytes(graph.SerializeToString())
    manifest.pop("files")
    tiny.write_manifest(root, manifest | {"explain": "explain.onnx"})
    return root
