"""The encoder-only Transformer (BERT, Devlin et al. 2019, arXiv:1810.04805): a state for every token, heads on them."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_model.attention import padding_mask
from dragoman_model.config import EncoderConfig
from dragoman_model.layers import EncoderLayer
from dragoman_model.positions import Positions
from dragoman_model.token_model import TokenModel


class MaskHead(nn.Module):
    """What stands before the tied embedding: a linear map, GELU and a norm (Devlin et al. 2019, appendix A)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def forward(self, states: Tensor, embedding: Tensor) -> Tensor:
        """Logits (..., vocabulary) of states (..., d_model); ``embedding`` (vocabulary, d_model)."""
        out: Tensor = self.norm(F.gelu(self.dense(states))) @ embedding.T + self.bias
        return out


class TextEncoder(TokenModel):
    """[CLS] text [SEP], or [CLS] text [SEP] text [SEP] with segments 0 and 1; each head is there if the config has it.

    ``classifier`` and ``next_sentence`` look at the [CLS] state through ``pooler``, ``tagger`` and ``mask_head`` at
    any token's.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.config = config
        d_model = config.d_model
        self.positions = Positions(config.positions, config.max_length, d_model)
        self.segment_embedding = nn.Embedding(config.segments, d_model) if config.segments else None
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        # A post-norm stack ends in a norm already.
        self.norm = nn.LayerNorm(d_model) if config.norm == "pre" else nn.Identity()
        self.pooler = nn.Linear(d_model, d_model) if config.labels or config.next_sentence else None
        self.classifier = nn.Linear(d_model, len(config.labels)) if config.labels else None
        self.next_sentence = nn.Linear(d_model, 2) if config.next_sentence else None
        self.tagger = nn.Linear(d_model, len(config.tags)) if config.tags else None
        self.mask_head = MaskHead(config) if config.mask_head else None
        self.head_dropout = nn.Dropout(config.dropout)
        self.initialise()

    @property
    def encoder_layers(self) -> list[EncoderLayer]:
        """The layers, first to last."""
        return cast(list[EncoderLayer], list(self.layers))

    def states(self, ids: Tensor, lengths: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """(batch, time, d_model) of ids (batch, time); row i is padded after ``lengths[i]``; None: no padding.

        ``segments`` (batch, time) are 0 and 1; None: all 0. ValueError if they are given to a model that knows none.
        """
        if segments is not None and self.segment_embedding is None:
            raise ValueError("segments are given, but segments = 0: the model knows none")
        mask = None if lengths is None else padding_mask(lengths, ids.shape[1])
        x = self.embed(ids, self.positions)
        if self.segment_embedding is not None:
            x = x + self.segment_embedding(torch.zeros_like(ids) if segments is None else segments)
        for layer in self.encoder_layers:
            x = layer(x, mask)
        out: Tensor = self.norm(x)
        return out

    def forward(self, ids: Tensor, lengths: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """The same as ``states``."""
        return self.states(ids, lengths, segments)

    def pool(self, first: Tensor) -> Tensor:
        """tanh of a linear map of the [CLS] states (batch, d_model), the same shape."""
        assert self.pooler is not None
        return torch.tanh(self.pooler(first))

    def label_logits(self, first: Tensor) -> Tensor:
        """(batch, labels) of the [CLS] states (batch, d_model)."""
        assert self.classifier is not None
        logits: Tensor = self.classifier(self.head_dropout(self.pool(first)))
        return logits

    def next_sentence_logits(self, first: Tensor) -> Tensor:
        """(batch, 2) of the [CLS] states (batch, d_model); 1: the second text follows the first."""
        assert self.next_sentence is not None
        logits: Tensor = self.next_sentence(self.pool(first))
        return logits

    def tag_logits(self, states: Tensor) -> Tensor:
        """(..., tags) of states (..., d_model)."""
        assert self.tagger is not None
        logits: Tensor = self.tagger(self.head_dropout(states))
        return logits

    def mask_logits(self, states: Tensor) -> Tensor:
        """(..., vocabulary) of states (..., d_model): which token stands, or stood, here."""
        assert self.mask_head is not None
        logits: Tensor = self.mask_head(states, self.embedding.weight)
        return logits
