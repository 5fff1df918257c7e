"""Truncated attention whose cost grows with the window, not with the square of the text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman_model.attention import Similarity, attend, scaled_dot_product


def attend_in_window(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    before: int,
    after: int,
    similarity: Similarity = scaled_dot_product,
) -> Tensor:
    """What ``attend`` gives with ``window_mask(time, before, after)``, without ever making (time, time) scores.

    Queries and keys (..., time, d), values (..., time, d_value); context (..., time, d_value). The text is cut into
    blocks as long as the wider side of the window, so a block sees its neighbours and nothing beyond: time x 3 blocks
    of scores at most, or 2 where ``after`` is 0. The local attention of Liu et al. 2018 (arXiv:1801.10198, 4.2.4) and
    Beltagy et al. 2020 (arXiv:2004.05150, 3.1). ValueError if a side of the window is negative.
    """
    if before < 0 or after < 0:
        raise ValueError(f"before = {before}, after = {after}: a window has no negative side")
    time = queries.shape[-2]
    block = min(max(before, after, 1), time)
    neighbours = range(-1 if before else 0, 2 if after else 1)
    query_blocks = _blocks(queries, block)  # (..., blocks, block, d)
    key_blocks = _with_neighbours(_blocks(keys, block), neighbours)  # (..., blocks, neighbours * block, d)
    value_blocks = _with_neighbours(_blocks(values, block), neighbours)
    begins = torch.arange(query_blocks.shape[-3], device=queries.device)[:, None] * block
    query_places = begins + torch.arange(block, device=queries.device)
    key_places = begins + torch.arange(block * neighbours.start, block * neighbours.stop, device=queries.device)
    distance = key_places[:, None, :] - query_places[:, :, None]  # (blocks, block, neighbours * block)
    real = (key_places >= 0) & (key_places < time)
    mask = (distance >= -before) & (distance <= after) & real[:, None, :]
    context = attend(query_blocks, key_blocks, value_blocks, mask=mask, similarity=similarity)[0]
    return context.flatten(-3, -2)[..., :time, :]


def _blocks(x: Tensor, block: int) -> Tensor:
    """(..., time, d) -> (..., blocks, block, d), the last block filled up with zeros."""
    filled = F.pad(x, (0, 0, 0, -x.shape[-2] % block))
    return filled.view(*filled.shape[:-2], -1, block, filled.shape[-1])


def _with_neighbours(blocks: Tensor, neighbours: range) -> Tensor:
    """(..., blocks, block, d) -> (..., blocks, neighbours * block, d); zeros stand beyond either end."""
    count = blocks.shape[-3]
    padded = F.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat([padded[..., 1 + shift : 1 + shift + count, :, :] for shift in neighbours], dim=-2)
