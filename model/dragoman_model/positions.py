"""Where a token stands: sinusoidal and learned position encodings behind one interface."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

PositionKind = Literal["sinusoidal", "learned"]


def sinusoids(length: int, d_model: int) -> Tensor:
    """(length, d_model): PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(...), Vaswani et al. 2017, 3.5."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000.0) / d_model))
    table = torch.empty(length, d_model, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)[:, : d_model // 2]
    return table.float()


class Positions(nn.Module):
    """A table of ``max_length`` position vectors, computed (``sinusoidal``) or trained (``learned``)."""

    table: Tensor

    def __init__(self, kind: PositionKind, max_length: int, d_model: int) -> None:
        super().__init__()
        self.max_length = max_length
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(max_length, d_model) * d_model**-0.5)
        else:
            self.register_buffer("table", sinusoids(max_length, d_model), persistent=False)

    def forward(self, time: int) -> Tensor:
        """(time, d_model): the vectors of positions 0 to time - 1; ValueError beyond ``max_length``."""
        if time > self.max_length:
            raise ValueError(f"time = {time} is longer than max_length = {self.max_length}")
        return self.table[:time]
