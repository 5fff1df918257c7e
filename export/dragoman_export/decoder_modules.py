"""The decoder's graph of a bundle as PyTorch modules over a trained ``Transformer``: one step of every row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_export.cached_attention import group_query_attention, weights_apart
from dragoman_export.graph_modules import EMBEDDING, FeedForwardGraph, Projection, narrowed, scaled_embedding
from dragoman_model.layers import DecoderLayer
from dragoman_model.transformer import Transformer


class DecoderLayerGraph(nn.Module):
    """One decoder layer over one token for each row.

    ``longest_apart``: weights are not asked of the attention operator, but computed for sources of so many tokens at
    most; 0: the operator gives them.
    """

    beyond: Tensor

    def __init__(self, layer: DecoderLayer, *, with_weights: bool, longest_apart: int = 0) -> None:
        super().__init__()
        self.with_weights, self.apart = with_weights, bool(longest_apart and with_weights)
        if self.apart:
            # A table rather than a range: that would be made by the processor, and copied to the GPU at each step.
            square = torch.full((longest_apart, longest_apart), float("-inf")).triu(diagonal=1)
            self.register_buffer("beyond", square)
        self.num_heads = layer.self_attention.num_heads
        self.query_key_value = Projection(layer.self_attention.query_key_value)
        self.self_output = Projection(layer.self_attention.output)
        self.query = Projection(layer.cross_attention.query)
        self.cross_output = Projection(layer.cross_attention.output)
        self.feed_forward = FeedForwardGraph(layer.feed_forward)
        self.self_residual = layer.self_residual
        self.cross_residual = layer.cross_residual
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(  # noqa: PLR0917  (a graph's inputs)
        self,
        x: Tensor,
        past: Sequence[Tensor],
        lengths: tuple[Tensor, Tensor],
        cross: Sequence[Tensor],
        cross_last: Sequence[Tensor],
        cross_lengths: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """x (rows, 1, d_model) -> the same, and the four caches: self key, self value, cross key, cross value.

        Last, where asked for, the cross-attention's weights (rows, heads, 1, cross_total).

        The source's last key and value are written over themselves: the operator wants something new to add, and so
        attends to exactly the real tokens of each row.
        """
        packed = self.query_key_value(self.self_residual.enter(x))
        context, *present = group_query_attention([packed, None, None, *past, *lengths], x, num_heads=self.num_heads)[
            :3
        ]
        x = self.self_residual.leave(x, self.self_output(context))
        queries = self.query(self.cross_residual.enter(x))
        context, *present_cross = group_query_attention(
            [queries, *cross_last, *cross, *cross_lengths],
            x,
            num_heads=self.num_heads,
            with_weights=self.with_weights and not self.apart,
        )
        weights = present_cross[2:]
        if self.apart:
            bias = F.embedding(cross_lengths[0], self.beyond)
            weights = [weights_apart(queries, present_cross[0], bias, num_heads=self.num_heads)]
        x = self.cross_residual.leave(x, self.cross_output(context))
        x = self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
        return x, [*present, *present_cross[:2]], weights


class DecoderGraph(nn.Module):
    """One step: the token decoded last of every row -> scores of the next, caches written in place.

    Scores and attention are float32 whatever the weights are. ``apart``: attention is computed by operators that CUDA
    has, as ``DecoderLayerGraph`` does it.
    """

    embedding: Tensor
    position_table: Tensor
    output: Tensor

    def __init__(self, model: Transformer, top_k: int, *, apart: bool = False) -> None:
        super().__init__()
        self.top_k = top_k
        self.register_buffer(EMBEDDING, scaled_embedding(model.embedding))
        self.register_buffer("position_table", model.decoder_positions.table.detach().clone())
        self.register_buffer("output", model.embedding.weight.detach().T.contiguous())
        layers = [narrowed(layer, DecoderLayer) for layer in model.decoder]
        longest = model.config.max_length if apart else 0
        self.layers = nn.ModuleList(
            DecoderLayerGraph(layer, with_weights=layer is layers[-1], longest_apart=longest) for layer in layers
        )
        self.norm = model.decoder_norm

    def forward(  # noqa: PLR0917  (the graph's inputs)
        self,
        input_ids: Tensor,
        lengths: Tensor,
        total_length: Tensor,
        cross_lengths: Tensor,
        cross_total: Tensor,
        past: list[Tensor],
        cross: list[Tensor],
        cross_last: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
        """Shapes as in the bundle's description; lists hold key and value by turns, layer by layer.

        Returns top log-probabilities and ids (rows, top_k), logits (rows, vocabulary), the last layer's cross-attention
        as the mean over its heads (rows, cross_total), which means nothing beyond a row's source, and all present
        caches.
        """
        positions = lengths.to(torch.int64)[:, None]  # a row's next position is the number of those that it has
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.position_table)  # (rows, 1, d_model)
        present: list[Tensor] = []
        weights: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            own = slice(2 * number, 2 * number + 2)
            x, caches, weights = layer(
                x, past[own], (lengths, total_length), cross[own], cross_last[own], (cross_lengths, cross_total)
            )
            present += caches
        logits = (self.norm(x)[:, 0] @ self.output).float()  # (rows, vocabulary)
        top_log_probs, top_ids = logits.log_softmax(dim=-1).topk(self.top_k, dim=-1)
        return top_log_probs, top_ids, logits, weights[0].float().mean(dim=(1, 2)), present
