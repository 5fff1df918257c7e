"""Encoder and decoder layers: attention and feed-forward sub-layers, each with its residual and its norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_model.attention import MultiHeadAttention
from dragoman_model.config import ModelConfig


class Dropout(nn.Module):
    """Zeroes a share of the features in training, drawn per token, or once per sentence and shared over its tokens."""

    def __init__(self, share: float, *, shared_over_time: bool) -> None:
        super().__init__()
        self.share = share
        self.shared_over_time = shared_over_time

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x (batch, time, d_model)."""
        if not self.training or self.share == 0.0:
            return x
        if not self.shared_over_time:
            return F.dropout(x, self.share)
        keep = 1.0 - self.share
        mask = torch.rand(x.shape[0], 1, x.shape[2], device=x.device).lt(keep).to(x.dtype) / keep
        return x * mask


class FeedForward(nn.Module):
    """Two linear maps with ReLU or GELU between, the same at every position (Vaswani et al. 2017, 3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d_model, config.d_ff)
        self.outer = nn.Linear(config.d_ff, config.d_model)
        self.activation = F.relu if config.activation == "relu" else F.gelu

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, d_model) -> the same."""
        out: Tensor = self.outer(self.activation(self.inner(x)))
        return out


class Residual(nn.Module):
    """The frame of a sub-layer: x + f(norm(x)) before ("pre", Xiong et al. 2020) or norm(x + f(x)) after ("post")."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.pre = config.norm == "pre"
        self.dropout = Dropout(config.dropout, shared_over_time=config.dropout_shared_over_time)

    def enter(self, x: Tensor) -> Tensor:
        """What the sub-layer is given."""
        entered: Tensor = self.norm(x) if self.pre else x
        return entered

    def leave(self, x: Tensor, out: Tensor) -> Tensor:
        """The sub-layer's result added to its input."""
        added = x + self.dropout(out)
        left: Tensor = added if self.pre else self.norm(added)
        return left


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(config.d_model, config.num_heads)
        self.feed_forward = FeedForward(config)
        self.self_residual = Residual(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, x: Tensor, mask: Tensor | None, *, causal: bool = False) -> Tensor:
        """(batch, time, d_model) -> the same; mask broadcasts to (batch, heads, time, time).

        ``causal`` adds the causal mask: so a decoder-only model runs these layers.
        """
        x = self.self_residual.leave(x, self.self_attention(self.self_residual.enter(x), mask=mask, causal=causal))
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention over the encoded source, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(config.d_model, config.num_heads)
        self.cross_attention = MultiHeadAttention(config.d_model, config.num_heads, cross=True)
        self.feed_forward = FeedForward(config)
        self.self_residual = Residual(config)
        self.cross_residual = Residual(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], source_mask: Tensor | None) -> Tensor:
        """x (batch, target, d_model) -> the same.

        ``memory`` is the source's keys and values, each (batch, heads, source, head_dim); targets are padded on the
        right, where the causal mask keeps them out of sight.
        """
        x = self.self_residual.leave(x, self.self_attention(self.self_residual.enter(x), causal=True))
        x = self.cross_residual.leave(x, self.cross_attention(self.cross_residual.enter(x), memory, mask=source_mask))
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
