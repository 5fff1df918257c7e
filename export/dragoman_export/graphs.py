"""Exports a trained ``Transformer`` to encoder.onnx and decoder.onnx, in float32 or in float16."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from dragoman_export.decoder_modules import DecoderGraph
from dragoman_export.encoder_modules import EncoderGraph
from dragoman_export.onnx_export import export_module, quiet
from dragoman_model.transformer import Transformer
from dragoman_server.packing import pack

TOP_K = 16
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


class GraphPaths(NamedTuple):
    """The two files that one precision consists of."""

    encoder: Path
    decoder: Path


def export_graphs(model: Transformer, folder: Path, *, top_k: int = TOP_K) -> GraphPaths:
    """Write encoder.onnx and decoder.onnx in float32 into ``folder``, which is made if it is missing.

    ``top_k`` is capped by the vocabulary. Nothing is printed to stdout.
    """
    return _export(EncoderGraph(model), DecoderGraph(model, _capped(top_k, model)), model, folder)


def export_half_graphs(model: Transformer, folder: Path, *, top_k: int = TOP_K) -> GraphPaths:
    """The same in float16, for GPUs: weights, caches and products; norms, softmax and scores are float32.

    Made of operators that onnxruntime has for CUDA. On the CPU they run too, converted from node to node.
    """
    own = copy.deepcopy(model)  # a graph shares the model's norms
    return _export(EncoderGraph(own).half(), DecoderGraph(own, _capped(top_k, own), apart=True).half(), own, folder)


def _capped(top_k: int, model: Transformer) -> int:
    return min(top_k, model.config.vocabulary)


def _export(encoder: EncoderGraph, decoder: DecoderGraph, model: Transformer, folder: Path) -> GraphPaths:
    folder.mkdir(parents=True, exist_ok=True)
    paths = GraphPaths(folder / ENCODER, folder / DECODER)
    with quiet(), torch.no_grad():
        _export_encoder(encoder, paths.encoder)
        _export_decoder(decoder, model, paths.decoder)
    return paths


def _export_encoder(graph: EncoderGraph, path: Path) -> None:
    packed = pack([[1, 1, 1], [1, 1]])
    axes = {1: {0: "tokens"}, 2: {0: "batch", 1: "source"}}
    shapes = {name: axes[value.ndim] for name, value in packed.feeds.items()} | {"last_index": {0: "batch"}}
    export_module(
        graph.eval(),
        path,
        inputs={name: torch.from_numpy(value) for name, value in packed.feeds.items()},
        dynamic_shapes=shapes,
        input_names=list(packed.feeds),
        output_names=["cross", "cross_last"],
    )


def _export_decoder(graph: DecoderGraph, model: Transformer, path: Path) -> None:
    config = model.config
    names = list(_cache_names(model))
    rows, target, source = 2, 5, 4
    past = torch.zeros(rows, config.num_heads, target, config.head_dim, dtype=graph.output.dtype)
    cross = torch.zeros(rows, config.num_heads, source, config.head_dim, dtype=graph.output.dtype)
    plain = {
        "input_ids": torch.ones(rows, 1, dtype=torch.int64),
        "lengths": torch.zeros(rows, dtype=torch.int32),
        "total_length": torch.tensor(1, dtype=torch.int32),
        "cross_lengths": torch.zeros(rows, dtype=torch.int32),
        "cross_total": torch.tensor(1, dtype=torch.int32),
    }
    present = [
        f"present_{kind}{part}_{layer}"
        for layer in range(config.decoder_layers)
        for kind in ("", "cross_")
        for part in ("key", "value")
    ]
    export_module(
        graph.eval(),
        path,
        inputs={
            **plain,
            "past": [past.clone() for _ in names],
            "cross": [cross.clone() for _ in names],
            "cross_last": [torch.zeros(rows, 1, config.d_model, dtype=graph.output.dtype) for _ in names],
        },
        dynamic_shapes={
            **{name: {0: "rows"} if tensor.dim() else {} for name, tensor in plain.items()},
            "past": [{0: "rows", 2: "target_capacity"} for _ in names],
            "cross": [{0: "rows", 2: "source_capacity"} for _ in names],
            "cross_last": [{0: "rows"} for _ in names],
        },
        input_names=[*plain, *(f"{kind}_{name}" for kind in ("past", "cross", "cross_last") for name in names)],
        output_names=["top_log_probs", "top_ids", "logits", "cross_attention", *present],
    )


def _cache_names(model: Transformer) -> Iterator[str]:
    for layer in range(model.config.decoder_layers):
        yield from (f"key_{layer}", f"value_{layer}")
