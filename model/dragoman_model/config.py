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


class EncoderConfig(ModelConfig):
    """Sizes, choices and heads of an encoder-only Transformer; a head is there if its labels, tags or flag are."""

    family: Literal["encoder"] = "encoder"
    encoder_layers: int = Field(default=6, gt=0)
    activation: Literal["relu", "gelu"] = "gelu"
    positions: PositionKind = "learned"
    segments: Literal[0, 2] = 0
    """2: the model tells the texts of a pair apart."""
    labels: list[str] = []
    """Of a classifier, in the order of its logits."""
    multi_label: bool = False
    """Each label is true or not by itself (sigmoid); otherwise just one is (softmax)."""
    pairs: bool = False
    """The classifier was trained on pairs of texts."""
    out_of_scope_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    """A text whose likeliest label has a smaller probability belongs to none of the labels."""
    tags: list[str] = []
    """Of a tagger, in the order of its logits."""
    bio: bool = False
    """Tags begin with B- and I-: words of one span are joined."""
    mask_head: bool = False
    next_sentence: bool = False
    cls_id: int = 2
    sep_id: int = 3
    mask_id: int = 4

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Padding, unknown, [CLS], [SEP] and [MASK]."""
        return (self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id)

    @model_validator(mode="after")
    def _heads(self) -> Self:
        faults = [
            f"{name} = {values}: each once"
            for name, values in (("labels", self.labels), ("tags", self.tags))
            if len(set(values)) < len(values)
        ]
        if (self.pairs or self.next_sentence) and not self.segments:
            faults.append("segments = 0: pairs and next_sentence need 2")
        if faults:
            raise ValueError("; ".join(faults))
        return self
