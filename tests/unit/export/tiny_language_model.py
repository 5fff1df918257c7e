"""A tiny LanguageModel with random weights, its checkpoint, and texts of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dragoman_model.checkpoint import Provenance, TrainedModel, load_model, save_model
from dragoman_model.config import DecoderConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.tokenizer import train_text_tokenizer

PARAGRAPHS = [
    "The ferry leaves the island at noon, and nobody waves.",
    "An old clock ticks above the kitchen door. It has been ten minutes slow since the winter.",
    "We picked blackberries along the railway line until our buckets were full.",
    "Somebody left a blue umbrella in the library;\nthe porter keeps it behind the counter.",
    "The miller's cat sleeps on the warm flour sacks and dreams of herrings.",
    "When the lamps went out, the whole street began to sing.",
    "My uncle repairs accordions. On Sundays he plays them, one after the other.",
    "A letter came from the harbour: the ship will be late, but it will come.",
]
RECIPE = """name = "tiny-text"
[data]
files = ["text.txt"]
train_share = 0.5
valid_share = 0.1
documents = "{documents}"
[training]
max_tokens = {window}
"""
WINDOW = 40


def make_model(seed: int = 1, **choices: Any) -> LanguageModel:
    """Random weights, biases and norms included, so that each of them can be seen in the result."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocabulary": 300, "d_model": 32, "num_heads": 4, "d_ff": 64, "max_length": 48}
    model = LanguageModel(DecoderConfig(**(sizes | {"decoder_layers": 2} | choices)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save_checkpoint(path: Path, seed: int = 1, documents: str = "files") -> TrainedModel[LanguageModel]:
    """A checkpoint; returned as it is read back."""
    tokenizer = train_text_tokenizer(PARAGRAPHS, 300)
    model = make_model(seed, vocabulary=tokenizer.get_vocab_size(with_added_tokens=True))
    provenance = Provenance(
        name="tiny-text",
        description="For tests",
        languages=[],
        directions=[],
        recipe=RECIPE.format(documents=documents, window=WINDOW),
        updates=0,
        training_data="sentences of our own",
        licence="CC0-1.0",
        attribution="",
    )
    save_model(path, dict(model.state_dict()), model.config, tokenizer, provenance)
    return load_model(path, LanguageModel)


def write_text(path: Path) -> Path:
    """The paragraphs, twice, with blank lines between."""
    path.write_text("\n\n".join([*PARAGRAPHS, *reversed(PARAGRAPHS)]) + "\n", encoding="utf-8")
    return path
