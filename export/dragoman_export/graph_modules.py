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
    """One encoder layer; self-attention sees the tokens that the mask leaves."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.num_heads = layer.self_attention.num_heads
        self.query_key_value = Projection(layer.self_attention.query_key_value)
        self.output = Projection(layer.self_attention.output)
        self.feed_forward = FeedForwardGraph(layer.feed_forward)
        self.self_residual = layer.self_residual
        self.feed_forward_residual = layer.feed_forward_residual

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """x (batch, source, d_model) and mask (batch, source) -> (batch, source, d_model)."""
        queries, keys, values = self.query_key_value(self.self_residual.enter(x)).chunk(3, dim=-1)
        context = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            [queries, keys, values, None, attention_mask],
            attrs={"num_heads": self.num_heads},
            dtype=x.dtype,
            shape=list(x.shape),
            version=1,
        )
        x = self.self_residual.leave(x, self.output(context))
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class EncoderGraph(nn.Module):
    """Source ids -> every decoder layer's cross keys and values, and those of each source's last token."""

    embedding: Tensor
    positions: Tensor

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.num_heads = model.config.num_heads
        self.register_buffer(EMBEDDING, _scaled_embedding(model))
        self.register_buffer("positions", model.encoder_positions.table.detach().clone())
        self.layers = nn.ModuleList(EncoderLayerGraph(_as(EncoderLayer, layer)) for layer in model.encoder)
        self.norm = model.encoder_norm
        self.key_value = nn.ModuleList(
            Projection(_as(DecoderLayer, layer).cross_attention.key_value) for layer in model.decoder
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Ids and mask (batch, source), padded on the right.

        Returns keys and values by turns, layer by layer: of all tokens (batch, heads, source, head_dim), and of the
        last real one (batch, 1, d_model).
        """
        time = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = F.embedding(input_ids, self.embedding) + F.embedding(time, self.positions)
        for layer in self.layers:
            x = layer(x, attention_mask)
        x = self.norm(x)
        last = attention_mask.sum(dim=1, dtype=torch.int64)[:, None, None] - 1  # (batch, 1, 1)
        last = last.expand(-1, 1, x.shape[2])
        caches, lasts = [], []
        for projection in self.key_value:
            for projected in projection(x).chunk(2, dim=-1):  # (batch, source, d_model)
                caches.append(projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2))
                lasts.append(projected.gather(1, last))
        return caches, lasts


class DecoderLayerGraph(nn.Module):
    """One decoder layer over one token for each row."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
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
    ) -> tuple[Tensor, list[Tensor]]:
        """x (rows, 1, d_model) -> the same, and the four caches: self key, self value, cross key, cross value.

        The source's last key and value are written over themselves: the operator wants something new to add, and so
        attends to exactly the real tokens of each row.
        """
        packed = self.query_key_value(self.self_residual.enter(x))
        context, *present = self._attend([packed, None, None, *past, *lengths], x)
        x = self.self_residual.leave(x, self.self_output(context))
        queries = self.query(self.cross_residual.enter(x))
        context, *present_cross = self._attend([queries, *cross_last, *cross, *cross_lengths], x)
        x = self.cross_residual.leave(x, self.cross_output(context))
        x = self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
        return x, [*present, *present_cross]

    def _attend(self, inputs: list[Tensor | None], x: Tensor) -> Sequence[Tensor]:
        key, value = inputs[3], inputs[4]
        assert key is not None
        assert value is not None
        outputs: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            inputs,
            attrs={"num_heads": self.num_heads, "kv_num_heads": self.num_heads},
            dtypes=[x.dtype, key.dtype, value.dtype],
            shapes=[list(x.shape), list(key.shape), list(value.shape)],
            version=1,
        )
        return outputs


class DecoderGraph(nn.Module):
    """One step: the token decoded last of every row -> scores of the next, caches written in place."""

    embedding: Tensor
    positions: Tensor
    output: Tensor

    def __init__(self, model: Transformer, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.register_buffer(EMBEDDING, _scaled_embedding(model))
        self.register_buffer("positions", model.decoder_positions.table.detach().clone())
        self.register_buffer("output", model.embedding.weight.detach().T.contiguous())
        self.layers = nn.ModuleList(DecoderLayerGraph(_as(DecoderLayer, layer)) for layer in model.decoder)
        self.norm = model.decoder_norm

    def forward(  # noqa: PLR0917  (the graph's inputs)
        self,
        input_ids: Tensor,
        positions: Tensor,
        lengths: Tensor,
        total_length: Tensor,
        cross_lengths: Tensor,
        cross_total: Tensor,
        past: list[Tensor],
        cross: list[Tensor],
        cross_last: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Shapes as in the bundle's description; lists hold key and value by turns, layer by layer.

        Returns top log-probabilities and ids (rows, top_k), logits (rows, vocabulary) and all present caches.
        """
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.positions)  # (rows, 1, d_model)
        present: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            own = slice(2 * number, 2 * number + 2)
            x, caches = layer(
                x, past[own], (lengths, total_length), cross[own], cross_last[own], (cross_lengths, cross_total)
            )
            present += caches
        logits = self.norm(x)[:, 0] @ self.output  # (rows, vocabulary)
        top_log_probs, top_ids = logits.log_softmax(dim=-1).topk(self.top_k, dim=-1)
        return top_log_probs, top_ids, logits, present


def _scaled_embedding(model: Transformer) -> Tensor:
    """(vocabulary, d_model), times sqrt(d_model): the same products as at run time, taken once."""
    return model.embedding.weight.detach() * math.sqrt(model.config.d_model)


def _as(kind: type[Layer], module: nn.Module) -> Layer:
    assert isinstance(module, kind)
    return module
