"""The encoder-decoder Transformer (Vaswani et al. 2017) with one embedding for source, target and output."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dragoman_model.attention import padding_mask
from dragoman_model.config import Config
from dragoman_model.layers import DecoderLayer, EncoderLayer
from dragoman_model.positions import Positions
from dragoman_model.token_model import TokenModel

Memory = list[tuple[Tensor, Tensor]]
"""Each decoder layer's keys and values of the source, each (batch, heads, source, head_dim)."""


class Transformer(TokenModel):
    """Encoder and decoder over a joint vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_positions = Positions(config.positions, config.max_length, config.d_model)
        self.decoder_positions = Positions(config.positions, config.max_length, config.d_model)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # A post-norm stack ends in a norm already.
        self.encoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.initialise()

    @property
    def encoder_layers(self) -> list[EncoderLayer]:
        """The encoder's layers, first to last."""
        return cast(list[EncoderLayer], list(self.encoder))

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The decoder's layers, first to last."""
        return cast(list[DecoderLayer], list(self.decoder))

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
