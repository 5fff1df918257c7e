"""The graph of a trained ``LanguageModel``: one token of each of many rows, or several tokens of one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_export.cached_attention import group_query_attention
from dragoman_export.graph_modules import EMBEDDING, FeedForwardGraph, Projection, scaled_embedding
from dragoman_export.graphs import DECODER, TOP_K
from dragoman_export.onnx_export import export_module, quiet
from dragoman_model.language_model import LanguageModel
from dragoman_model.layers import EncoderLayer

_NOT_SMALL = 256
"""Numbers of a constant."""


class LanguageLayerGraph(nn.Module):
    """One layer, run causally."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.num_heads = layer.self_attention.num_heads
        self.query_key_value = Projection(layer.self_attention.query_key_value)
        self.output = Projection(layer.self_attention.output)
        self.feed_forward = FeedForwardGraph(layer.feed_forward)
        self.self_residual = layer.self_residual
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(
        self, x: Tensor, past: Sequence[Tensor], lengths: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """x (rows, time, d_model) -> the same, and the key and value cache."""
        packed = self.query_key_value(self.self_residual.enter(x))  # (rows, time, 3 * d_model)
        context, *present = group_query_attention([packed, None, None, *past, *lengths], x, num_heads=self.num_heads)
        x = self.self_residual.leave(x, self.output(context))
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x))), present


class LanguageGraph(nn.Module):
    """The tokens that were decoded last -> scores of the next, caches written in place.

    Scores are float32 whatever the weights are. ``apart``: positions come from a table, so that nothing is made by the
    processor and copied to the GPU at each step.
    """

    embedding: Tensor
    position_table: Tensor
    output: Tensor
    places: Tensor

    def __init__(self, model: LanguageModel, top_k: int, *, apart: bool = False) -> None:
        super().__init__()
        self.top_k, self.apart = top_k, apart
        if apart:
            # onnxruntime takes small constants to the processor, and all that is computed with them.
            self.register_buffer("places", torch.arange(max(_NOT_SMALL, model.config.max_length)))
        self.register_buffer(EMBEDDING, scaled_embedding(model.embedding))
        self.register_buffer("position_table", model.positions.table.detach().clone())
        self.register_buffer("output", model.embedding.weight.detach().T.contiguous())
        self.layers = nn.ModuleList(LanguageLayerGraph(layer) for layer in model.decoder_layers)
        self.norm = model.norm

    def forward(
        self, input_ids: Tensor, lengths: Tensor, total_length: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Ids (rows, time), lengths before them (rows,), the largest length after them, and the caches.

        Caches are key and value by turns, layer by layer, each (rows, heads, capacity, head_dim). Returns, for the last
        token of each row, top log-probabilities and ids (rows, top_k) and logits (rows, vocabulary), and all present
        caches. Several tokens need rows = 1: the operator takes no more.
        """
        time = input_ids.shape[1]
        places = self.places[:time] if self.apart else torch.arange(time)
        positions = lengths.to(torch.int64)[:, None] + places  # (rows, time)
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.position_table)
        # Each row's length after the call, less one.
        ends = positions[:, -1] if self.apart else lengths + (time - 1)
        present: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x, caches = layer(x, past[2 * number : 2 * number + 2], (ends.to(torch.int32), total_length))
            present += caches
        logits = (self.norm(x)[:, -1] @ self.output).float()  # (rows, vocabulary)
        top_log_probs, top_ids = logits.log_softmax(dim=-1).topk(self.top_k, dim=-1)
        return top_log_probs, top_ids, logits, present


def export_language_graph(model: LanguageModel, folder: Path, *, top_k: int = TOP_K) -> Path:
    """Write decoder.onnx in float32 into ``folder``, which is made if it is missing.

    ``top_k`` is capped by the vocabulary. Nothing is printed to stdout.
    """
    return _export(LanguageGraph(model, min(top_k, model.config.vocabulary)), model, folder)


def export_half_language_graph(model: LanguageModel, folder: Path, *, top_k: int = TOP_K) -> Path:
    """The same in float16, for GPUs: weights, caches and products; norms, softmax and scores are float32."""
    own = copy.deepcopy(model)  # a graph shares the model's norms
    return _export(LanguageGraph(own, min(top_k, own.config.vocabulary), apart=True).half(), own, folder)


def _export(graph: LanguageGraph, model: LanguageModel, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    names = [f"{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("key", "value")]
    rows, time, capacity = 2, 3, 5
    plain = {
        "input_ids": torch.ones(rows, time, dtype=torch.int64),
        "lengths": torch.zeros(rows, dtype=torch.int32),
        "total_length": torch.tensor(time, dtype=torch.int32),
    }
    past = torch.zeros(rows, config.num_heads, capacity, config.head_dim, dtype=graph.output.dtype)
    with quiet(), torch.no_grad():
        export_module(
            graph.eval(),
            folder / DECODER,
            inputs={**plain, "past": [past.clone() for _ in names]},
            dynamic_shapes={
                "input_ids": {0: "rows", 1: "time"},
                "lengths": {0: "rows"},
                "total_length": {},
                "past": [{0: "rows", 2: "target_capacity"} for _ in names],
            },
            input_names=[*plain, *(f"past_{name}" for name in names)],
            output_names=["top_log_probs", "top_ids", "logits", *(f"present_{name}" for name in names)],
        )
    return folder / DECODER
