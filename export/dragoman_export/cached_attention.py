"""Attention over caches of keys and values, for the graphs that decode.

The operator is onnxruntime's own (domain com.microsoft), so what calls it is for exporting, not for running:
``GroupQueryAttention`` writes the caches in place and takes a length for every row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_AFTER_SOFTMAX = 2
_Attribute = int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]


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
