"""The shape of a model: frozen, validated once, unknown keys refused."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dragoman_model.positions import PositionKind


class Config(BaseModel):
    """Sizes and choices of an encoder-decoder Transformer; pydantic's ValidationError lists every fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(gt=4)
    d_model: int = Field(default=256, gt=0)
    num_heads: int = Field(default=8, gt=0)
    d_ff: int = Field(default=1024, gt=0)
    encoder_layers: int = Field(default=6, gt=0)
    decoder_layers: int = Field(default=6, gt=0)
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu"] = "relu"
    positions: PositionKind = "sinusoidal"
    max_length: int = Field(default=256, gt=1)
    """Most tokens of a source or a target, special tokens included."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of each sub-layer's output, and of the embeddings, that training zeroes."""
    dropout_shared_over_time: bool = False
    """One dropout mask per sentence rather than per token (Gal and Ghahramani 2016): far fewer random numbers."""
    pad_id: int = 0
    unk_id: int = 1
    bos_id: int = 2
    eos_id: int = 3

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model = {self.d_model} must be a multiple of num_heads = {self.num_heads}")
        if self.d_model % 2:
            raise ValueError(f"d_model = {self.d_model} must be even")
        ids = (self.pad_id, self.unk_id, self.bos_id, self.eos_id)
        if len(set(ids)) < len(ids) or not all(0 <= i < self.vocabulary for i in ids):
            raise ValueError(f"special ids {ids} must differ and lie in [0, {self.vocabulary})")
        return self

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.d_model // self.num_heads


class RecurrentConfig(BaseModel):
    """Sizes of a recurrent encoder-decoder, with attention or without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["gru", "gru-attention"]
    vocabulary: int = Field(gt=4)
    d_model: int = Field(default=256, gt=0)
    """Size of an embedding, and of what the output is read from."""
    d_encoder: int = Field(default=256, gt=0)
    """State of the encoder, in each direction."""
    d_decoder: int = Field(default=384, gt=0)
    d_attention: int = Field(default=256, gt=0)
    """Hidden layer of the additive similarity; of no use without attention."""
    max_length: int = Field(default=256, gt=1)
    """Most tokens of a source or a target, special tokens included."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    dropout_shared_over_time: bool = False
    pad_id: int = 0
    unk_id: int = 1
    bos_id: int = 2
    eos_id: int = 3

    @property
    def attends(self) -> bool:
        """Whether the decoder looks at all of the encoder's states, or only at its last."""
        return self.architecture == "gru-attention"
