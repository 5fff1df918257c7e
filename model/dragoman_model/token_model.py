"""What the models of all families share: an embedding that is the output projection too, and how weights begin."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dragoman_model.config import ModelConfig
from dragoman_model.layers import Dropout
from dragoman_model.positions import Positions


class TokenModel(nn.Module):
    """A model over one vocabulary; the embedding is the output projection too (Press and Wolf 2017)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.embedding_scale = math.sqrt(config.d_model)
        self.embedding_dropout = Dropout(config.dropout, shared_over_time=config.dropout_shared_over_time)

    def initialise(self, embedding_std: float | None = None) -> None:
        """Draw all weights: Xavier for matrices, zero for biases, normal for embeddings. Positions stay.

        The embeddings' deviation is 1 / sqrt(d_model) unless one is given.
        """
        std = 1.0 / self.embedding_scale if embedding_std is None else embedding_std
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and "positions" not in name and "embedding" not in name:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and "embedding" in name:
                nn.init.normal_(parameter, std=std)

    def embed(self, ids: Tensor, positions: Positions) -> Tensor:
        """(batch, time) -> (batch, time, d_model), scaled by sqrt(d_model) (Vaswani et al. 2017, 3.4)."""
        embedded = self.embedding(ids) * self.embedding_scale + positions(ids.shape[1])
        dropped: Tensor = self.embedding_dropout(embedded)
        return dropped

    def logits(self, states: Tensor) -> Tensor:
        """(..., d_model) -> (..., vocabulary)."""
        return states @ self.embedding.weight.T

    @property
    def parameter_count(self) -> int:
        """Trained numbers, the shared embedding counted once."""
        return sum(p.numel() for p in self.parameters())
