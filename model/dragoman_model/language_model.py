"""The decoder-only Transformer (Radford et al. 2019): each token is predicted from those before it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dragoman_model.config import DecoderConfig
from dragoman_model.layers import EncoderLayer
from dragoman_model.positions import Positions
from dragoman_model.token_model import TokenModel


class LanguageModel(TokenModel):
    """Self-attention layers under a causal mask; a text begins with bos and ends with eos."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.positions = Positions(config.positions, config.max_length, config.d_model)
        # A decoder's layer without cross-attention is an encoder's that is run causally.
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        # As GPT-2 has it: a larger one makes a fresh model repeat its last token, since the embedding is tied.
        self.initialise(embedding_std=0.02)

    @property
    def decoder_layers(self) -> list[EncoderLayer]:
        """The layers, first to last."""
        return cast(list[EncoderLayer], list(self.layers))

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, time) -> (batch, time, d_model); ``mask`` (time, time) hides more than the future does.

        Rows are padded on the right, where the causal mask keeps the padding out of sight. ValueError if time exceeds
        ``max_length``.
        """
        x = self.embed(ids, self.positions)
        for layer in self.decoder_layers:
            x = layer(x, mask, causal=True)
        states: Tensor = self.norm(x)
        return states

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, time, vocabulary) of what follows each of the ids (batch, time)."""
        return self.logits(self.states(ids))
