"""The shape of a model: frozen, validated once, unknown keys refused."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dragoman_model.positions import PositionKind


class ModelConfig(BaseModel):
    """What the models of all families have; pydantic's ValidationError lists every fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    vocabulary: int = Field(gt=4)
    d_model: int = Field(default=256, gt=0)
    num_heads: int = Field(default=8, gt=0)
    d_ff: int = Field(default=1024, gt=0)
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu"] = "relu"
    positions: PositionKind = "sinusoidal"
    max_length: int = Field(default=256, gt=1)
    """Most tokens of a text (of a source or a target), special tokens included."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of each sub-layer's output, and of the embeddings, that training zeroes."""
    dropout_shared_over_time: bool = False
    """One dropout mask per sentence rather than per token (Gal and Ghahramani 2016): far fewer random numbers."""
    pad_id: int = 0
    unk_id: int = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model = {self.d_model} must be a multiple of num_heads = {self.num_heads}")
        if self.d_model % 2:
            raise ValueError(f"d_model = {self.d_model} must be even")
        ids = self.special_ids
        if len(set(ids)) < len(ids) or not all(0 <= i < self.vocabulary for i in ids):
            raise ValueError(f"special ids {ids} must differ and lie in [0, {self.vocabulary})")
        return self

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids that stand for no text."""
        return (self.pad_id, self.unk_id)

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.d_model // self.num_heads


class _BeginAndEnd(ModelConfig):
    bos_id: int = 2
    eos_id: int = 3

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Padding, unknown, beginning and end."""
        return (self.pad_id, self.unk_id, self.bos_id, self.eos_id)


class Config(_BeginAndEnd):
    """Sizes and choices of an encoder-decoder Transformer."""

    family: Literal["encoder-decoder"] = "encoder-decoder"
    encoder_layers: int = Field(default=6, gt=0)
    decoder_layers: int = Field(default=6, gt=0)


class DecoderConfig(_BeginAndEnd):
    """Sizes and choices of a decoder-only Transformer; ``max_length`` is its window."""

    family: Literal["decoder"] = "decoder"
    decoder_layers: int = Field(default=6, gt=0)
    activation: Literal["relu", "gelu"] = "gelu"
    positions: PositionKind = "learned"
