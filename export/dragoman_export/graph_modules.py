"""The two graphs of a bundle as PyTorch modules over a trained ``Transformer``.

The attention operators are onnxruntime's own (domain com.microsoft), so these modules are for exporting, not for
running: ``GroupQueryAttention`` writes the caches in place and takes a length for every row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_model.layers import DecoderLayer, EncoderLayer, FeedForward
from dragoman_model.transformer import Transformer

EMBEDDING = "embedding"
"""Name of the embedding's table, in both graphs."""

_AFTER_SOFTMAX = 2
_Attribute = int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]

Layer = TypeVar("Layer", bound=nn.Module)


class Projection(nn.Module):
    """A linear map stored as (in, out): in the graph it is one MatMul by a constant, and one Add."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().T.contiguous())
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return x @ self.weight + self.bias


class FeedForwardGraph(nn.Module):
    """A layer's feed-forward network."""

    def __init__(self, feed_forward: FeedForward) -> None:
        super().__init__()
        self.inner = Projection(feed_forward.inner)
        self.outer = Projection(feed_forward.outer)
        self.activation = feed_forward.activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) -> the same."""
        out: Tensor = self.outer(self.activation(self.inner(x)))
        return out


class EncoderLayerGraph(nn.Module):
    """One encoder layer over packed tokens; self-attention alone sees them as a padded batch."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.num_heads = layer.self_attention.num_heads
        self.query_key_value = Projection(layer.self_attention.query_key_value)
        self.output = Projection(layer.self_attention.output)
        self.feed_forward = FeedForwardGraph(layer.feed_forward)
        self.self_residual = layer.self_residual
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(self, x: Tensor, padded_index: Tensor, attention_mask: Tensor, packed_index: Tensor) -> Tensor:
        """x (tokens, d_model), index and mask (batch, source), and places (tokens,) -> (tokens, d_model)."""
        packed = self.query_key_value(self.self_residual.enter(x))  # (tokens, 3 * d_model)
        queries, keys, values = F.embedding(padded_index, packed).chunk(3, dim=-1)  # (batch, source, d_model)
        context = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            [queries, keys, values, None, attention_mask],
            attrs={"num_heads": self.num_heads},
            dtype=x.dtype,
            shape=list(queries.shape),
            version=1,
        )
        context = F.embedding(packed_index, context.flatten(0, 1))  # (tokens, d_model)
        x = self.self_residual.leave(x, self.output(context))
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class EncoderGraph(nn.Module):
    """Source ids -> every decoder layer's cross keys and values, and those of each source's last token."""

    embedding: Tensor
    position_table: Tensor

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        config = model.config
        self.num_heads, self.head_dim, self.d_model = config.num_heads, config.head_dim, config.d_model
        self.caches = 2 * config.decoder_layers
        self.register_buffer(EMBEDDING, scaled_embedding(model.embedding))
        self.register_buffer("position_table", model.encoder_positions.table.detach().clone())
        self.layers = nn.ModuleList(EncoderLayerGraph(narrowed(layer, EncoderLayer)) for layer in model.encoder)
        self.norm = model.encoder_norm
        self.cross_key_value = Projection(_side_by_side(model))

    def forward(  # noqa: PLR0917  (the graph's inputs)
        self,
        input_ids: Tensor,
        positions: Tensor,
        padded_index: Tensor,
        attention_mask: Tensor,
        packed_index: Tensor,
        last_index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Inputs as ``dragoman_server.packing`` lays them out.

        Returns keys and values by turns, layer by layer: of all tokens (2 * layers, heads, tokens, head_dim), and of
        each source's last one (2 * layers, batch, 1, d_model).
        """
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.position_table)  # (tokens, d_model)
        for layer in self.layers:
            x = layer(x, padded_index, attention_mask, packed_index)
        projected = self.cross_key_value(self.norm(x))  # (tokens, 2 * layers * d_model)
        last = F.embedding(last_index, projected).reshape(-1, self.caches, 1, self.d_model).transpose(0, 1)
        return projected.reshape(-1, self.caches, self.num_heads, self.d_model // self.num_heads).permute(
            1, 2, 0, 3
        ), last


def group_query_attention(
    inputs: list[Tensor | None], x: Tensor, *, num_heads: int, with_weights: bool = False
) -> Sequence[Tensor]:
    """Context (as ``x``), present key and value; where asked for, the weights (rows, heads, queries, capacity).

    ``inputs`` are those of onnxruntime's operator: query (or query, key and value side by side), key, value, past key,
    past value, each row's length less one (rows,), and the largest length.
    """
    key, value = inputs[3], inputs[4]
    assert key is not None
    assert value is not None
    attributes: dict[str, _Attribute] = {"num_heads": num_heads, "kv_num_heads": num_heads}
    dtypes, shapes = [x.dtype, key.dtype, value.dtype], [x.shape, key.shape, value.shape]
    if with_weights:
        attributes["qk_output"] = _AFTER_SOFTMAX
        dtypes.append(x.dtype)
        shapes.append(torch.Size([x.shape[0], num_heads, x.shape[1], key.shape[2]]))
    outputs: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        inputs,
        attrs=attributes,
        dtypes=dtypes,
        shapes=[list(shape) for shape in shapes],
        version=1,
    )
    return outputs


def weights_apart(queries: Tensor, keys: Tensor, bias: Tensor, *, num_heads: int) -> Tensor:
    """What ``group_query_attention`` gives as weights, by plain operators: on CUDA that operator has none to give.

    Queries (rows, 1, d_model), keys (rows, heads, capacity, head_dim) and what is added to scores (rows, most),
    capacity or more -> weights in float32 (rows, heads, 1, capacity), zero where the bias is minus infinity.
    """
    split = queries.reshape(-1, 1, num_heads, queries.shape[2] // num_heads).transpose(1, 2)  # (rows, heads, 1, dim)
    scores = (split @ keys.transpose(2, 3)).float() / math.sqrt(split.shape[3])
    bias = bias.float()[:, None, None, : keys.shape[2]]
    return (scores + bias).softmax(dim=-1)


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


def _side_by_side(model: Transformer) -> nn.Linear:
    """All decoder layers' projections of the encoder's output as one: d_model -> 2 * layers * d_model."""
    maps = [narrowed(layer, DecoderLayer).cross_attention.key_value for layer in model.decoder]
    joined = nn.Linear(maps[0].in_features, sum(each.out_features for each in maps), device="meta")
    joined.weight = nn.Parameter(torch.cat([each.weight.detach() for each in maps]))
    joined.bias = nn.Parameter(torch.cat([each.bias.detach() for each in maps]))
    return joined


def scaled_embedding(embedding: nn.Embedding) -> Tensor:
    """(vocabulary, d_model), times sqrt(d_model): the same products as at run time, taken once."""
    return embedding.weight.detach() * math.sqrt(embedding.embedding_dim)


def narrowed(module: nn.Module, kind: type[Layer]) -> Layer:
    """A member of a ModuleList as what it is."""
    assert isinstance(module, kind)
    return module
