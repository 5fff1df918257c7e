"""The encoder-decoder Transformer (Vaswani et al. 2017) with one embedding for source, target and output."""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn

from dragoman_model.attention import padding_mask
from dragoman_model.config import Config
from dragoman_model.layers import DecoderLayer, Dropout, EncoderLayer
from dragoman_model.positions import Positions

Memory = list[tuple[Tensor, Tensor]]
"""Each decoder layer's keys and values of the source, each (batch, heads, source, head_dim)."""


class Transformer(nn.Module):
    """Encoder and decoder over a joint vocabulary; the embedding is the output projection too (Press and Wolf 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.encoder_positions = Positions(config.positions, config.max_length, config.d_model)
        self.decoder_positions = Positions(config.positions, config.max_length, config.d_model)
        self.embedding_dropout = Dropout(config.dropout, shared_over_time=config.dropout_shared_over_time)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # A post-norm stack ends in a norm already.
        self.encoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and "positions" not in name and "embedding" not in name:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.embedding.weight, std=self.config.d_model**-0.5)

    @property
    def encoder_layers(self) -> list[EncoderLayer]:
        """The encoder's layers, first to last."""
        return cast(list[EncoderLayer], list(self.encoder))

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The decoder's layers, first to last."""
        return cast(list[DecoderLayer], list(self.decoder))

    def embed(self, ids: Tensor, positions: Positions) -> Tensor:
        """(batch, time) -> (batch, time, d_model), scaled by sqrt(d_model) (Vaswani et al. 2017, 3.4)."""
        embedded = self.embedding(ids) * math.sqrt(self.config.d_model) + positions(ids.shape[1])
        dropped: Tensor = self.embedding_dropout(embedded)
        return dropped

    def source_mask(self, lengths: Tensor | None, time: int) -> Tensor | None:
        """(batch, 1, 1, time), or None when nothing is padded."""
        return None if lengths is None else padding_mask(lengths, time)

    def encode(self, source: Tensor, source_lengths: Tensor | None) -> Tensor:
        """Encoder states (batch, source, d_model) of ids (batch, source); lengths None: no row is padded."""
        mask = self.source_mask(source_lengths, source.shape[1])
        x = self.embed(source, self.encoder_positions)
        for layer in self.encoder_layers:
            x = layer(x, mask)
        states: Tensor = self.encoder_norm(x)
        return states

    def project_memory(self, states: Tensor) -> Memory:
        """The source's keys and values for every decoder layer: computed once, read at each step."""
        return [layer.cross_attention.project_memory(states) for layer in self.decoder_layers]

    def decode(self, target: Tensor, memory: Memory, source_lengths: Tensor | None) -> Tensor:
        """Decoder states (batch, target, d_model) after ids (batch, target), teacher-forced."""
        mask = self.source_mask(source_lengths, memory[0][0].shape[2])
        x = self.embed(target, self.decoder_positions)
        for layer, keys_values in zip(self.decoder_layers, memory, strict=True):
            x = layer(x, keys_values, mask)
        states: Tensor = self.decoder_norm(x)
        return states

    def forward(self, source: Tensor, source_lengths: Tensor | None, target: Tensor) -> Tensor:
        """Decoder states (batch, target, d_model) from source ids, their lengths, and the target shifted right."""
        memory = self.project_memory(self.encode(source, source_lengths))
        return self.decode(target, memory, source_lengths)

    def logits(self, states: Tensor) -> Tensor:
        """(..., d_model) -> (..., vocabulary)."""
        return states @ self.embedding.weight.T

    @property
    def parameter_count(self) -> int:
        """Trained numbers, the shared embedding counted once."""
        return sum(p.numel() for p in self.parameters())
