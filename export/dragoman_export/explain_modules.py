"""A trained model as PyTorch modules that return every attention weight, of every layer and head.

The weights are computed step by step by the functions of ``dragoman_model.attention``, over padded batches. What no
weight depends on is left out: the last layer's values, output projection and feed-forward network, and the heads.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_export.graph_modules import FeedForwardGraph, Projection
from dragoman_model.attention import (
    MultiHeadAttention,
    causal_mask,
    masked_softmax,
    padding_mask,
    scaled_dot_product,
)
from dragoman_model.language_model import LanguageModel
from dragoman_model.layers import DecoderLayer, EncoderLayer
from dragoman_model.positions import Positions
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.transformer import Transformer

Layer = TypeVar("Layer", bound=nn.Module)


class VisibleAttention(nn.Module):
    """Multi-head attention that returns its weights, and its output unless ``weights_only``."""

    def __init__(self, attention: MultiHeadAttention, *, weights_only: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        width = self.num_heads * self.head_dim
        if attention.cross:
            maps = [attention.query, *_parts(attention.key_value, width)]
        else:
            maps = _parts(attention.query_key_value, width)
        self.query, self.key = Projection(maps[0]), Projection(maps[1])
        self.value = None if weights_only else Projection(maps[2])
        self.output = None if weights_only else Projection(attention.output)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """x (batch, queries, d_model) and memory (batch, keys, d_model) -> the output (batch, queries, d_model), and
        the weights (batch, heads, queries, keys).
        """
        queries, keys = self._split(self.query(x)), self._split(self.key(memory))
        weights = masked_softmax(scaled_dot_product(queries, keys), mask)
        if self.value is None or self.output is None:
            return None, weights
        context = weights @ self._split(self.value(memory))  # (batch, heads, queries, head_dim)
        return self.output(context.transpose(1, 2).flatten(2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(batch, time, d_model) -> (batch, heads, time, head_dim)."""
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)


class VisibleEncoderLayer(nn.Module):
    """An encoder layer, or a layer of a decoder-only model; the ``last`` one stops at its weights."""

    def __init__(self, layer: EncoderLayer, *, last: bool) -> None:
        super().__init__()
        self.self_attention = VisibleAttention(layer.self_attention, weights_only=last)
        self.self_residual = layer.self_residual
        self.feed_forward = None if last else FeedForwardGraph(layer.feed_forward)
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (batch, time, d_model) -> the same, and the weights (batch, heads, time, time)."""
        entered = self.self_residual.enter(x)
        out, weights = self.self_attention(entered, entered, mask)
        if out is None or self.feed_forward is None:
            return x, weights
        x = self.self_residual.leave(x, out)
        x = self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
        return x, weights


class VisibleDecoderLayer(nn.Module):
    """A decoder layer with cross-attention; the ``last`` one stops at the cross-attention's weights."""

    def __init__(self, layer: DecoderLayer, *, last: bool) -> None:
        super().__init__()
        self.self_attention = VisibleAttention(layer.self_attention, weights_only=False)
        self.cross_attention = VisibleAttention(layer.cross_attention, weights_only=last)
        self.feed_forward = None if last else FeedForwardGraph(layer.feed_forward)
        self.self_residual = layer.self_residual
        self.cross_residual = layer.cross_residual
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(
        self, x: Tensor, memory: Tensor, causal: Tensor, source_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (batch, target, d_model) and memory (batch, source, d_model) -> x, and the weights of self-attention
        (batch, heads, target, target) and of cross-attention (batch, heads, target, source).
        """
        entered = self.self_residual.enter(x)
        out, own = self.self_attention(entered, entered, causal)
        x = self.self_residual.leave(x, out)
        out, cross = self.cross_attention(self.cross_residual.enter(x), memory, source_mask)
        if out is None or self.feed_forward is None:
            return x, own, cross
        x = self.cross_residual.leave(x, out)
        x = self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
        return x, own, cross


class Embedded(nn.Module):
    """Token embedding, scaled by sqrt(d_model), plus positions; ``scaled`` is the embedding that is scaled already."""

    embedding: Tensor
    table: Tensor

    def __init__(self, embedding: nn.Embedding, positions: Positions, scaled: Tensor | None) -> None:
        super().__init__()
        self.scale = math.sqrt(embedding.embedding_dim) if scaled is None else None
        # The model's own tensors: two of these over one embedding, or one table, are then stored once.
        self.embedding = embedding.weight if scaled is None else scaled
        self.table = positions.table

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, d_model)."""
        tokens = F.embedding(ids, self.embedding)
        if self.scale is not None:
            tokens = tokens * self.scale
        return tokens + self.table[: ids.shape[1]]


class VisibleTransformer(nn.Module):
    """Source and target ids -> all weights of an encoder-decoder model, teacher-forced."""

    def __init__(self, model: Transformer, scaled: Tensor | None) -> None:
        super().__init__()
        self.source = Embedded(model.embedding, model.encoder_positions, scaled)
        same = torch.equal(model.encoder_positions.table, model.decoder_positions.table)
        self.target = Embedded(model.embedding, model.encoder_positions if same else model.decoder_positions, scaled)
        self.encoder = nn.ModuleList(VisibleEncoderLayer(layer, last=False) for layer in model.encoder_layers)
        last = model.decoder_layers[-1]
        self.decoder = nn.ModuleList(VisibleDecoderLayer(layer, last=layer is last) for layer in model.decoder_layers)
        self.norm = model.encoder_norm

    def forward(self, source_ids: Tensor, source_lengths: Tensor, target_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (batch, source) and (batch, target), lengths (batch,) -> weights, stacked over the layers.

        Encoder (batch, layers, heads, source, source), decoder (batch, layers, heads, target, target), and cross
        (batch, layers, heads, target, source).
        """
        mask = padding_mask(source_lengths, source_ids.shape[1])
        x, encoder_self = run_layers(self.encoder, self.source(source_ids), mask)
        memory = self.norm(x)
        causal = causal_mask(target_ids.shape[1])
        x = self.target(target_ids)
        decoder_self, cross = [], []
        for layer in self.decoder:
            x, own, other = layer(x, memory, causal, mask)
            decoder_self.append(own)
            cross.append(other)
        return encoder_self, torch.stack(decoder_self, dim=1), torch.stack(cross, dim=1)


class VisibleLanguageModel(nn.Module):
    """Ids -> all weights of a decoder-only model."""

    def __init__(self, model: LanguageModel, scaled: Tensor | None) -> None:
        super().__init__()
        self.embedded = Embedded(model.embedding, model.positions, scaled)
        last = model.decoder_layers[-1]
        self.layers = nn.ModuleList(VisibleEncoderLayer(layer, last=layer is last) for layer in model.decoder_layers)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Ids (batch, time), padded on the right, where nobody looks -> (batch, layers, heads, time, time)."""
        return run_layers(self.layers, self.embedded(input_ids), causal_mask(input_ids.shape[1]))[1]


class VisibleTextEncoder(nn.Module):
    """Ids -> all weights of an encoder-only model; one without segments is called without them."""

    def __init__(self, model: TextEncoder, scaled: Tensor | None) -> None:
        super().__init__()
        self.embedded = Embedded(model.embedding, model.positions, scaled)
        self.segment_embedding = model.segment_embedding
        last = model.encoder_layers[-1]
        self.layers = nn.ModuleList(VisibleEncoderLayer(layer, last=layer is last) for layer in model.encoder_layers)

    def forward(self, input_ids: Tensor, lengths: Tensor, segments: Tensor | None = None) -> Tensor:
        """Ids and segments (batch, source), lengths (batch,) -> (batch, layers, heads, source, source)."""
        x = self.embedded(input_ids)
        if self.segment_embedding is not None and segments is not None:
            x = x + self.segment_embedding(segments)
        return run_layers(self.layers, x, padding_mask(lengths, input_ids.shape[1]))[1]


def run_layers(layers: nn.ModuleList, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (batch, time, d_model) after the layers, and their weights (batch, layers, heads, time, time)."""
    weights = []
    for layer in layers:
        x, of_layer = layer(x, mask)
        weights.append(of_layer)
    return x, torch.stack(weights, dim=1)


def _parts(joined: nn.Linear, width: int) -> list[nn.Linear]:
    """The maps that ``joined`` computes side by side, each d_model -> width."""
    parts = []
    for begin in range(0, joined.out_features, width):
        part = nn.Linear(joined.in_features, width, device="meta")
        part.weight = nn.Parameter(joined.weight.detach()[begin : begin + width])
        part.bias = nn.Parameter(joined.bias.detach()[begin : begin + width])
        parts.append(part)
    return parts
