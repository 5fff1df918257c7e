"""What an encoder says of many texts: batches by length, answers in the order of the texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dragoman_model.batching import Example, Indices, TokenBatches
from dragoman_model.encoder_batching import EncoderText, collate_texts
from dragoman_model.text_encoder import TextEncoder

_BATCH_TOKENS = 4096


def batches_of(texts: Sequence[EncoderText], *, batch_tokens: int, seed: int) -> TokenBatches:
    """Batches by the lengths of the texts alone."""
    return TokenBatches([Example(text.ids, ()) for text in texts], batch_tokens=batch_tokens, seed=seed)


@torch.no_grad()
def label_logits(model: TextEncoder, texts: Sequence[EncoderText], *, batch_tokens: int = _BATCH_TOKENS) -> Tensor:
    """(texts, labels) on CPU, in float32; the model must be in evaluation mode."""
    out = torch.empty(len(texts), len(model.config.labels))
    for indices, states in _states(model, texts, batch_tokens):
        out[torch.from_numpy(indices)] = model.label_logits(states[:, 0]).float().cpu()
    return out


@torch.no_grad()
def tag_logits(model: TextEncoder, texts: Sequence[EncoderText], *, batch_tokens: int = _BATCH_TOKENS) -> list[Tensor]:
    """For each text (tokens, tags) on CPU, in float32, special tokens included."""
    out: list[Tensor] = [torch.empty(0)] * len(texts)
    for indices, states in _states(model, texts, batch_tokens):
        logits = model.tag_logits(states).float().cpu()
        for row, index in enumerate(indices):
            out[index] = logits[row, : len(texts[index].ids)]
    return out


def _states(model: TextEncoder, texts: Sequence[EncoderText], batch_tokens: int) -> Iterator[tuple[Indices, Tensor]]:
    assert not model.training
    device = model.embedding.weight.device
    for indices in batches_of(texts, batch_tokens=batch_tokens, seed=0).in_order():
        batch = collate_texts([texts[i] for i in indices], model.config).to(device)
        yield np.asarray(indices), model(batch.ids, batch.lengths, batch.segments)
