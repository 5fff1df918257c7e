"""The encoder-only Transformer (Devlin et al. 2019) with heads for labels, tags and masked tokens."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_model.attention import padding_mask
from dragoman_model.config import Config
from dragoman_model.layers import Dropout, EncoderLayer
from dragoman_model.positions import Positions


class EncoderConfig(Config):
    """Sizes, choices and heads of a ``TextEncoder``."""

    activation: Any = "gelu"
    positions: Any = "learned"
    segments: int = 0
    labels: list[str] = []
    multi_label: bool = False
    tags: list[str] = []
    mask_head: bool = False
    pad_id: int = 0
    unk_id: int = 1
    cls_id: int = 2
    sep_id: int = 3
    mask_id: int = 4


class MaskHead(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def forward(self, states: Tensor, embedding: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(states))) @ embedding.T + self.bias


class TextEncoder(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.positions = Positions(config.positions, config.max_length, config.d_model)
        self.segment_embedding = nn.Embedding(config.segments, config.d_model) if config.segments else None
        self.embedding_dropout = Dropout(config.dropout, shared_over_time=config.dropout_shared_over_time)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.pooler = nn.Linear(config.d_model, config.d_model) if config.labels else None
        self.classifier = nn.Linear(config.d_model, len(config.labels)) if config.labels else None
        self.tagger = nn.Linear(config.d_model, len(config.tags)) if config.tags else None
        self.mask_head = MaskHead(config) if config.mask_head else None

    def states(self, ids: Tensor, lengths: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        x = self.embedding(ids) * math.sqrt(self.config.d_model) + self.positions(ids.shape[1])
        if self.segment_embedding is not None:
            x = x + self.segment_embedding(torch.zeros_like(ids) if segments is None else segments)
        x = self.embedding_dropout(x)
        mask = None if lengths is None else padding_mask(lengths, ids.shape[1])
        for layer in self.layers:
            x = cast(EncoderLayer, layer)(x, mask)
        return self.norm(x)

    def label_logits(self, states: Tensor) -> Tensor:
        return self.classifier(torch.tanh(self.pooler(states)))

    def tag_logits(self, states: Tensor) -> Tensor:
        return self.tagger(states)

    def mask_logits(self, states: Tensor) -> Tensor:
        return self.mask_head(states, self.embedding.weight)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
