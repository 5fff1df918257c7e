"""The encoder's graph of a bundle as PyTorch modules over a trained ``Transformer``.

The attention operator is onnxruntime's own (domain com.microsoft), so these modules are for exporting, not for running.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_export.graph_modules import EMBEDDING, FeedForwardGraph, Projection, narrowed, scaled_embedding
from dragoman_model.layers import DecoderLayer, EncoderLayer
from dragoman_model.transformer import Transformer


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


def _side_by_side(model: Transformer) -> nn.Linear:
    """All decoder layers' projections of the encoder's output as one: d_model -> 2 * layers * d_model."""
    maps = [narrowed(layer, DecoderLayer).cross_attention.key_value for layer in model.decoder]
    joined = nn.Linear(maps[0].in_features, sum(each.out_features for each in maps), device="meta")
    joined.weight = nn.Parameter(torch.cat([each.weight.detach() for each in maps]))
    joined.bias = nn.Parameter(torch.cat([each.bias.detach() for each in maps]))
    return joined
