"""The three models of recipes history-*.toml: reading them, translating with them, and what they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from dragoman_model.checkpoint import TrainedModel, load_model
from dragoman_model.families import AnyModel
from dragoman_model.recurrent import RecurrentTranslator, translate_greedily
from dragoman_model.search import translate_ids
from dragoman_model.tokenizer import BOS, EOS, encode_texts, language_tag, token_id
from dragoman_model.transformer import Transformer

NAMES = {"history-gru": "GRU", "history-gru-attention": "GRU with attention", "history-transformer": "Transformer"}
SOURCE, TARGET = "de", "en"
MAX_LENGTH = 200


@dataclass(frozen=True)
class Alignment:
    """What was looked at while a translation was written."""

    source: list[str]
    target: list[str]
    weights: Tensor
    """(layers, heads, target, source)."""


def load_history(runs: Path) -> dict[str, TrainedModel[AnyModel]]:
    """The result of each run under ``runs``, by the name it has in the pictures."""
    return {shown: load_model(runs / name / "model") for name, shown in NAMES.items()}


def source_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Tag, text and end-of-sentence."""
    tag, eos = token_id(tokenizer, language_tag(TARGET)), token_id(tokenizer, EOS)
    return [[tag, *ids, eos] for ids in encode_texts(tokenizer, texts)]


def translate(trained: TrainedModel[AnyModel], texts: Sequence[str]) -> list[str]:
    """Greedy translations."""
    sources = source_ids(trained.tokenizer, texts)
    match trained.model:
        case Transformer():
            targets = translate_ids(trained.model, sources, max_length=MAX_LENGTH)
        case RecurrentTranslator():
            targets = translate_greedily(trained.model, sources, max_length=MAX_LENGTH)
        case _:
            raise AssertionError(f"a {type(trained.model).__name__} does not translate")
    decoded: list[str] = trained.tokenizer.decode_batch(targets)
    return decoded


@torch.no_grad()
def align(trained: TrainedModel[AnyModel], text: str) -> Alignment:
    """The model's own translation of ``text``, and its weights over the source."""
    tokenizer, model = trained.tokenizer, trained.model
    translation = tokenizer.encode(translate(trained, [text])[0], add_special_tokens=False).ids
    (source,) = source_ids(tokenizer, [text])
    target = torch.tensor([[token_id(tokenizer, BOS), *translation]])
    match model:
        case Transformer():
            weights = cross_weights(model, torch.tensor([source]), target)[:, 0]
        case RecurrentTranslator():
            looked = model.decode(target, model.encode(torch.tensor([source]), None))[1]
            assert looked is not None, "without attention there is nothing to show"
            weights = looked[:, None]
        case _:
            raise AssertionError(f"a {type(model).__name__} does not translate")
    return Alignment(shown(tokenizer, source), shown(tokenizer, [*translation, token_id(tokenizer, EOS)]), weights)


def cross_weights(model: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """(layers, batch, heads, target, source) of ids without padding, teacher-forced."""
    memory = model.project_memory(model.encode(source, None))
    x, weights = model.embed(target, model.decoder_positions), []
    for layer, keys_values in zip(model.decoder_layers, memory, strict=True):
        seen = layer.self_attention(layer.self_residual.enter(x), causal=True)
        asked = layer.cross_residual.enter(layer.self_residual.leave(x, seen))
        weights.append(layer.cross_attention.weights(asked, keys_values))
        x = layer(x, keys_values, None)
    return torch.stack(weights)


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Each token as text; special ones by their names."""
    return [tokenizer.decode([i]) or str(tokenizer.id_to_token(i)) for i in ids]
