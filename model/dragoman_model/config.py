"""The shape of a model: frozen, validated once, unknown keys refused."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dragoman_model.positions import PositionKind


class BaseConfig(BaseModel):
    """What all models have, whatever they are made of; pydantic's ValidationError lists every fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    vocabulary: int = Field(gt=4)
    d_model: int = Field(default=256, gt=0)
    max_length: int = Field(default=256, gt=1)
    """Most tokens of a text (of a source or a target), special tokens included."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of each sub-layer's output, and of the embeddings, that training zeroes."""
    dropout_shared_over_time: bool = False
    """One dropout mask per sentence rather than per token (Gal and Ghahramani 2016): far fewer random numbers."""
    pad_id: int = 0
    unk_id: int = 1

    @model_validator(mode="after")
    def _special(self) -> Self:
        ids = self.special_ids
        if len(set(ids)) < len(ids) or not all(0 <= i < self.vocabulary for i in ids):
            raise ValueError(f"special ids {ids} must differ and lie in [0, {self.vocabulary})")
        return self

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids that stand for no text."""
        return (self.pad_id, self.unk_id)


class ModelConfig(BaseConfig):
    """What the Transformers of all families have."""

    num_heads: int = Field(default=8, gt=0)
    d_ff: int = Field(default=1024, gt=0)
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu"] = "relu"
    positions: PositionKind = "sinusoidal"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model = {self.d_model} must be a multiple of num_heads = {self.num_heads}")
        if self.d_model % 2:
            raise ValueError(f"d_model = {self.d_model} must be even")
        return self

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.d_model // self.num_heads


class _BeginAndEnd(BaseConfig):
    bos_id: int = 2
    eos_id: int = 3

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Padding, unknown, beginning and end."""
        return (self.pad_id, self.unk_id, self.bos_id, self.eos_id)


class Config(_BeginAndEnd, ModelConfig):
    """Sizes and choices of an encoder-decoder Transformer."""

    family: Literal["encoder-decoder"] = "encoder-decoder"
    encoder_layers: int = Field(default=6, gt=0)
    decoder_layers: int = Field(default=6, gt=0)


class DecoderConfig(_BeginAndEnd, ModelConfig):
    """Sizes and choices of a decoder-only Transformer; ``max_length`` is its window."""

    family: Literal["decoder"] = "decoder"
    decoder_layers: int = Field(default=6, gt=0)
    activation: Literal["relu", "gelu"] = "gelu"
    positions: PositionKind = "learned"


class RecurrentConfig(_BeginAndEnd):
    """Sizes of a recurrent encoder-decoder, with attention or without it: see recurrent.py."""

    family: Literal["recurrent"] = "recurrent"
    architecture: Literal["gru", "gru-attention"]
    d_encoder: int = Field(default=256, gt=0)
    """State of the encoder, in each direction."""
    d_decoder: int = Field(default=384, gt=0)
    d_attention: int = Field(default=256, gt=0)
    """Hidden layer of the additive similarity; of no use without attention."""

    @property
    def attends(self) -> bool:
        """Whether the decoder looks at all of the encoder's states, or only at the final ones."""
        return self.architecture == "gru-attention"
