"""A tiny LanguageModel with random weights, its checkpoint, and texts of our own."""

from __future__ import annotations

from typing import Any

import torch

from dragoman_model.config import DecoderConfig
from dragoman_model.language_model import LanguageModel


def make_model(seed: int = 1, **choices: Any) -> LanguageModel:
    """Random weights, biases and norms included, so that each of them can be seen in the result."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocabulary": 300, "d_model": 32, "num_heads": 4, "d_ff": 64, "max_length": 48}
    model = LanguageModel(DecoderConfig(**(sizes | {"decoder_layers": 2} | choices)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
