"""Continuing a text in PyTorch: with a cache of keys and values or without one, as the reference for what is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dragoman_model.attention import attend, causal_mask
from dragoman_model.language_model import LanguageModel


@dataclass
class TextCache:
    """Each layer's keys and values of the tokens so far, each (rows, heads, time, head_dim)."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def time(self) -> int:
        """Tokens so far."""
        return self.keys[0].shape[2]


def empty_cache(model: LanguageModel, rows: int) -> TextCache:
    """Of ``rows`` texts that have no token yet."""
    config = model.config
    empty = model.embedding.weight.new_zeros(rows, config.num_heads, 0, config.head_dim)
    return TextCache([empty] * config.decoder_layers, [empty] * config.decoder_layers)


@torch.no_grad()
def extend(model: LanguageModel, ids: Tensor, cache: TextCache) -> Tensor:
    """Logits (rows, time, vocabulary) of what follows each of the ids (rows, time); the cache grows by them.

    One id a row is a step, several are a chunk of a prompt. ValueError beyond ``max_length``.
    """
    past, time = cache.time, ids.shape[1]
    x = model.embedding(ids) * model.embedding_scale + model.positions(past + time)[past:]  # (rows, time, d_model)
    mask = causal_mask(past + time, ids.device)[past:]  # (time, past + time)
    for number, layer in enumerate(model.decoder_layers):
        attention = layer.self_attention
        queries, keys, values = attention.project(layer.self_residual.enter(x), None)
        cache.keys[number] = torch.cat([cache.keys[number], keys], dim=2)
        cache.values[number] = torch.cat([cache.values[number], values], dim=2)
        context = attend(queries, cache.keys[number], cache.values[number], mask=mask)[0]
        x = layer.self_residual.leave(x, attention.output(context.transpose(1, 2).flatten(2)))
        x = layer.feed_forward_residual.leave(x, layer.feed_forward(layer.feed_forward_residual.enter(x)))
    return model.logits(model.norm(x))


@torch.no_grad()
def generate(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, cached: bool = True
) -> list[list[int]]:
    """The likeliest next token again and again, for each prompt (bos first) by itself: new ids, eos left out.

    A text ends at eos, after ``max_new_tokens``, or where it fills ``max_length``. ValueError if a prompt is empty or
    longer than ``max_length``.
    """
    longest = model.config.max_length
    faults = [f"prompt {i}: {len(p)} ids, 1 to {longest}" for i, p in enumerate(prompts) if not 0 < len(p) <= longest]
    if faults:
        raise ValueError("; ".join(faults))
    return [_continue(model, list(prompt), max_new_tokens, cached=cached) for prompt in prompts]


def _continue(model: LanguageModel, ids: list[int], max_new_tokens: int, *, cached: bool) -> list[int]:
    device = model.embedding.weight.device
    begin, cache = len(ids), empty_cache(model, 1)
    while len(ids) - begin < max_new_tokens and len(ids) < model.config.max_length:
        if cached:
            logits = extend(model, torch.tensor([ids[cache.time :]], device=device), cache)
        else:
            logits = model(torch.tensor([ids], device=device))
        following = int(logits[0, -1].argmax())
        if following == model.config.eos_id:
            break
        ids.append(following)
    return ids[begin:]
