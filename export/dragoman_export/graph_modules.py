"""What the graphs of all families are made of, as PyTorch modules: linear maps, feed-forward networks, embeddings."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor, nn

from dragoman_model.layers import FeedForward

EMBEDDING = "embedding"
"""Name of the embedding's table, in every graph."""

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


def scaled_embedding(embedding: nn.Embedding) -> Tensor:
    """(vocabulary, d_model), times sqrt(d_model): the same products as at run time, taken once."""
    return embedding.weight.detach() * math.sqrt(embedding.embedding_dim)


def narrowed(module: nn.Module, kind: type[Layer]) -> Layer:
    """A member of a ModuleList as what it is."""
    assert isinstance(module, kind)
    return module
