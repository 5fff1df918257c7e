"""How far ``explain.onnx`` is from PyTorch, and whether its weights are what attention weights must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dragoman_export.bundle_writer import sha256
from dragoman_model.attention import causal_mask
from dragoman_model.families import AnyModel
from dragoman_model.language_model import LanguageModel
from dragoman_model.layers import EncoderLayer
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import AttentionMeasurement
from dragoman_server.explaining.graph import Array, Attention, ExplainGraph, ExplainInput

ATTENTION_INPUTS = 200
"""How many a certificate is measured on."""
MAX_WEIGHT_DIFFERENCE = 1e-5
MAX_SUM_ERROR = 1e-5
_BATCH = 8
_KINDS = ("encoder_self", "decoder_self", "cross")


def measure_attention(
    model: AnyModel | None,
    path: Path,
    inputs: Sequence[ExplainInput],
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> AttentionMeasurement:
    """Compare the graph, in padded batches of mixed lengths, with PyTorch, each input alone and without padding.

    Without a model only the sums and the padding are measured, and the difference is 0.
    """
    graph = ExplainGraph(path)
    largest = sum_error = padding = 0.0
    for begin in range(0, len(inputs), _BATCH):
        batch = inputs[begin : begin + _BATCH]
        padding = _largest(padding, *_padding_weights(graph.run_padded(batch), batch))
        for one, found in zip(batch, graph.run(batch), strict=True):
            expected = None if model is None else reference_attention(model, one)
            for kind in _KINDS:
                weights = getattr(found, kind)
                if weights is None:
                    continue
                sum_error = _largest(sum_error, float(np.abs(weights.sum(axis=-1, dtype=np.float64) - 1.0).max()))
                if expected is not None:
                    largest = _largest(largest, float(np.abs(weights - getattr(expected, kind)).max()))
        advance(len(batch))
    return AttentionMeasurement(
        max_weight_difference=largest,
        max_sum_error=sum_error,
        max_padding_weight=padding,
        sentences=len(inputs),
        graph_sha256=sha256(path),
    )


def attention_misses(measured: AttentionMeasurement) -> Iterator[str]:
    """Every limit that is missed; NaN misses, and so does a measurement of nothing."""
    if not measured.sentences:
        yield "attention: measured on nothing"
    if not measured.max_weight_difference <= MAX_WEIGHT_DIFFERENCE:
        yield (
            f"attention: largest difference of a weight from PyTorch {measured.max_weight_difference:.3g}, "
            f"must be at most {MAX_WEIGHT_DIFFERENCE:g}"
        )
    if not measured.max_sum_error <= MAX_SUM_ERROR:
        yield f"attention: a row sums to 1 within {measured.max_sum_error:.3g}, must be within {MAX_SUM_ERROR:g}"
    if measured.max_padding_weight != 0.0:
        yield f"attention: padding gets the weight {measured.max_padding_weight:.3g}, must be 0"


@torch.no_grad()
def reference_attention(model: AnyModel, one: ExplainInput) -> Attention:
    """The same weights by the model's own layers, of one input without padding."""
    match model:
        case Transformer():
            return _of_transformer(model, one)
        case LanguageModel():
            x = model.embed(torch.tensor([list(one.target)]), model.positions)
            weights, _ = _self_attention(model.decoder_layers, x, causal=True)
            return Attention(decoder_self=weights.numpy())
        case TextEncoder():
            ids = torch.tensor([list(one.source)])
            x = model.embed(ids, model.positions)
            if model.segment_embedding is not None:
                x = x + model.segment_embedding(torch.tensor([list(one.segments or [0] * len(one.source))]))
            return Attention(encoder_self=_self_attention(model.encoder_layers, x)[0].numpy())


def _of_transformer(model: Transformer, one: ExplainInput) -> Attention:
    x = model.embed(torch.tensor([list(one.source)]), model.encoder_positions)
    encoder_self, x = _self_attention(model.encoder_layers, x)
    y = model.embed(torch.tensor([list(one.target)]), model.decoder_positions)
    causal = causal_mask(len(one.target))
    decoder_self, cross = [], []
    for layer, memory in zip(model.decoder_layers, model.project_memory(model.encoder_norm(x)), strict=True):
        entered = layer.self_residual.enter(y)
        decoder_self.append(layer.self_attention.weights(entered, mask=causal))
        attended = layer.self_residual.leave(y, layer.self_attention(entered, causal=True))
        cross.append(layer.cross_attention.weights(layer.cross_residual.enter(attended), memory))
        y = layer(y, memory, None)
    return Attention(
        encoder_self=encoder_self.numpy(),
        decoder_self=torch.cat(decoder_self).numpy(),
        cross=torch.cat(cross).numpy(),
    )


def _self_attention(layers: Sequence[EncoderLayer], x: Tensor, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """The layers' weights (layers, heads, time, time) over x (1, time, d_model), and x after them."""
    mask = causal_mask(x.shape[1]) if causal else None
    weights = []
    for layer in layers:
        weights.append(layer.self_attention.weights(layer.self_residual.enter(x), mask=mask))
        x = layer(x, None, causal=causal)
    return torch.cat(weights), x


def _padding_weights(outputs: dict[str, Array], batch: Sequence[ExplainInput]) -> Iterator[float]:
    """Of each map and input: the largest weight that a real query gives to a key that is padding."""
    for kind, weights in outputs.items():
        for number, one in enumerate(batch):
            queries = len(one.source if kind == "encoder_self" else one.target)
            keys = len(one.target if kind == "decoder_self" else one.source)
            yield float(np.abs(weights[number, :, :, :queries, keys:]).max(initial=0.0))


def _largest(*values: float) -> float:
    """The largest; NaN outranks every number."""
    return float(np.max(values))
