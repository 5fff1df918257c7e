"""Attention, in seven steps: similarity -> mask -> softmax -> weighted sum of values.

1. One query attends by a small feed-forward network:      ``AdditiveSimilarity`` (Bahdanau et al. 2015)
2. The network becomes a dot product:                      ``dot_product`` (Luong et al. 2015)
3. ... scaled, so that its softmax keeps a gradient:       ``scaled_dot_product`` (Vaswani et al. 2017)
4. Many queries at once; a mask says who may see whom:     ``attend`` with ``masked_softmax``
5. Queries, keys and values become projections:            ``Attention``
6. ... of another sequence (cross-attention):              ``Attention`` with ``memory``
7. Several heads side by side:                             ``MultiHeadAttention``

Shapes: ``queries`` (..., queries, d), ``keys`` (..., keys, d), ``values`` (..., keys, d_value), scores and
weights (..., queries, keys). A mask is boolean, broadcastable to the scores, and True where a query may look.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Similarity = Callable[[Tensor, Tensor], Tensor]


class AdditiveSimilarity(nn.Module):
    """score(q, k) = v . tanh(W_q q + W_k k), Bahdanau et al. 2015 (arXiv:1409.0473), appendix A.1.2."""

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, hidden_dim, bias=False)
        self.key = nn.Linear(key_dim, hidden_dim, bias=False)
        self.energy = nn.Linear(hidden_dim, 1, bias=False)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores (..., queries, keys) of queries (..., queries, query_dim) and keys (..., keys, key_dim)."""
        return self.compare(queries, self.project_keys(keys))

    def project_keys(self, keys: Tensor) -> Tensor:
        """W_k k, (..., keys, hidden_dim): made once where many steps ask the same keys."""
        projected: Tensor = self.key(keys)
        return projected

    def compare(self, queries: Tensor, projected_keys: Tensor) -> Tensor:
        """Scores (..., queries, keys) where the keys are already what ``project_keys`` gave."""
        hidden = self.query(queries).unsqueeze(-2) + projected_keys.unsqueeze(-3)  # (..., queries, keys, hidden_dim)
        scores: Tensor = self.energy(torch.tanh(hidden)).squeeze(-1)
        return scores


def dot_product(queries: Tensor, keys: Tensor) -> Tensor:
    """score(q, k) = q . k, Luong et al. 2015 (arXiv:1508.04025), "dot"."""
    return queries @ keys.transpose(-2, -1)


def scaled_dot_product(queries: Tensor, keys: Tensor) -> Tensor:
    """score(q, k) = q . k / sqrt(d), Vaswani et al. 2017 (arXiv:1706.03762), equation 1."""
    return dot_product(queries, keys) / math.sqrt(queries.shape[-1])


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis; masked keys get exactly zero, and so does a query whose keys are all masked."""
    if mask is None:
        return scores.softmax(dim=-1)
    # The smallest finite number and not -inf: a row of -inf would be NaN, in the gradient too.
    hidden = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return hidden.softmax(dim=-1).masked_fill(~mask, 0.0)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    mask: Tensor | None = None,
    similarity: Similarity = scaled_dot_product,
) -> tuple[Tensor, Tensor]:
    """The whole idea: context vectors (..., queries, d_value) and the weights (..., queries, keys) that made them."""
    weights = masked_softmax(similarity(queries, keys), mask)
    return weights @ values, weights


class Attention(nn.Module):
    """One head over projections of the input (self-attention) or of another sequence, ``memory`` (cross-attention)."""

    def __init__(self, d_model: int, d_head: int, similarity: Similarity = scaled_dot_product) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, d_head)
        self.key = nn.Linear(d_model, d_head)
        self.value = nn.Linear(d_model, d_head)
        self.similarity = similarity

    def forward(self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Context (batch, queries, d_head) and weights (batch, queries, keys) of x (batch, queries, d_model)."""
        memory = x if memory is None else memory
        return attend(self.query(x), self.key(memory), self.value(memory), mask=mask, similarity=self.similarity)


class MultiHeadAttention(nn.Module):
    """Several heads side by side, each in its own subspace (Vaswani et al. 2017, section 3.2.2).

    Self-attention projects query, key and value by one matrix (``query_key_value``); cross-attention projects the
    memory by one matrix (``key_value``), once for all decoding steps.
    """

    def __init__(self, d_model: int, num_heads: int, *, cross: bool = False) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"d_model = {d_model} is not a multiple of num_heads = {num_heads}")
        self.num_heads = num_heads
        self.head_dim = d_model // num_heads
        self.cross = cross
        if cross:
            self.query = nn.Linear(d_model, d_model)
            self.key_value = nn.Linear(d_model, 2 * d_model)
        else:
            self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, time, d_model) -> (batch, heads, time, head_dim)."""
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (batch, keys, d_model), each (batch, heads, keys, head_dim)."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return self.split_heads(keys), self.split_heads(values)

    def project(self, x: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, time, head_dim)."""
        if memory is not None:
            return self.split_heads(self.query(x)), *memory
        queries, keys, values = self.query_key_value(x).chunk(3, dim=-1)
        return self.split_heads(queries), self.split_heads(keys), self.split_heads(values)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """(batch, queries, d_model); ``memory`` is what ``project_memory`` gave, ``causal`` adds the causal mask."""
        queries, keys, values = self.project(x, memory)
        if causal:
            mask = join_masks(mask, causal_mask(x.shape[1], x.device))
        # The fused kernel wins on GPUs; on CPU its backward is slower than three small products.
        if x.is_cuda:
            context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        else:
            context = attend(queries, keys, values, mask=mask)[0]
        merged: Tensor = self.output(context.transpose(1, 2).flatten(2))  # (batch, queries, d_model)
        return merged

    def weights(self, x: Tensor, memory: tuple[Tensor, Tensor] | None = None, *, mask: Tensor | None = None) -> Tensor:
        """What each head looks at: (batch, heads, queries, keys), each row summing to one."""
        queries, keys, values = self.project(x, memory)
        return attend(queries, keys, values, mask=mask)[1]


def padding_mask(lengths: Tensor, longest: int) -> Tensor:
    """(batch, 1, 1, longest), True for the first ``lengths[i]`` keys of row i: for (batch, heads, queries, keys)."""
    return (torch.arange(longest, device=lengths.device) < lengths[:, None])[:, None, None, :]


def causal_mask(time: int, device: torch.device | None = None) -> Tensor:
    """(time, time), True where key <= query: no position sees what comes after it."""
    return torch.ones(time, time, dtype=torch.bool, device=device).tril()


def window_mask(time: int, before: int, after: int, device: torch.device | None = None) -> Tensor:
    """(time, time), True where -before <= key - query <= after: truncated self-attention."""
    position = torch.arange(time, device=device)
    distance = position[None, :] - position[:, None]
    return (distance >= -before) & (distance <= after)


def adjacency_mask(edges: list[tuple[int, int]], time: int, *, self_loops: bool = True) -> Tensor:
    """(time, time), True where an edge (query, key) is given: attention on a graph."""
    mask = torch.eye(time, dtype=torch.bool) if self_loops else torch.zeros(time, time, dtype=torch.bool)
    for query, key in edges:
        mask[query, key] = True
    return mask


def join_masks(*masks: Tensor | None) -> Tensor | None:
    """A key is seen where every mask given lets it be seen."""
    joined: Tensor | None = None
    for mask in masks:
        if mask is not None:
            joined = mask if joined is None else joined & mask
    return joined
