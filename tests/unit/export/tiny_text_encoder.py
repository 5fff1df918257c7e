"""A tiny text encoder with random weights, its checkpoints, and labelled and tagged sentences of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dragoman_model.checkpoint import Provenance, TrainedModel, load_model, save_model
from dragoman_model.config import EncoderConfig
from dragoman_model.encoder_tokenizer import train_encoder_tokenizer
from dragoman_model.text_encoder import TextEncoder

LABELLED = [
    ("When does the ferry to the island leave?", "travel"),
    ("Book me a seat on the night train.", "travel"),
    ("Is the mountain road open in winter?", "travel"),
    ("Will it snow on Sunday?", "weather"),
    ("How strong is the wind at the harbour?", "weather"),
    ("Do I need an umbrella this evening?", "weather"),
    ("How long do lentils have to boil?", "food"),
    ("Find a recipe for plum cake.", "food"),
    ("Can I freeze fresh bread?", "food"),
]
OUTSIDE = ["The grey heron stands in the pond again.", "My sister has learnt to whistle."]
TAGGED = [
    ("The/DET heron/NOUN stands/VERB in/ADP the/DET pond/NOUN ./PUNCT"),
    ("Small/ADJ boats/NOUN sail/VERB slowly/ADV ./PUNCT"),
    ("She/PRON paints/VERB old/ADJ bridges/NOUN ./PUNCT"),
]
LABELS = sorted({label for _, label in LABELLED})
TAGS = sorted({word.split("/")[1] for sentence in TAGGED for word in sentence.split()})

CLASSIFICATION = """name = "tiny-intents"
task = "classification"
[data]
source = {format = "json-splits", file = "intents.json", out_of_scope = {test = "oos_test"}}
[training]
max_tokens = 40
"""
TAGGING = 'name = "tiny-tags"\ntask = "tagging"\n[data]\ntest = "tagged.tsv"\n[training]\nmax_tokens = 40\n'
SENTENCES = 'name = "tiny-english"\ntask = "masked-language-model"\n[training]\nmax_tokens = 40\n'


def make_model(seed: int = 1, **choices: Any) -> TextEncoder:
    """Random weights, biases and norms included, so that each of them can be seen in the result."""
    torch.manual_seed(seed)
    sizes = {"vocabulary": 300, "d_model": 32, "num_heads": 4, "d_ff": 64, "encoder_layers": 2, "max_length": 48}
    model = TextEncoder(EncoderConfig(**(sizes | choices)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save_checkpoint(path: Path, recipe: str, seed: int = 1, **choices: Any) -> TrainedModel[TextEncoder]:
    """A checkpoint that was trained, as it says, by ``recipe``; returned as it is read back."""
    texts = [text for text, _ in LABELLED] + OUTSIDE + [sentence.replace("/", " ") for sentence in TAGGED]
    tokenizer = train_encoder_tokenizer(texts, 320)
    model = make_model(seed, vocabulary=tokenizer.get_vocab_size(with_added_tokens=True), **choices)
    provenance = Provenance(
        name="tiny-encoder",
        description="For tests",
        languages=[],
        directions=[],
        recipe=recipe,
        updates=0,
        training_data="sentences of our own",
        licence="CC0-1.0",
        attribution="",
    )
    save_model(path, dict(model.state_dict()), model.config, tokenizer, provenance)
    return load_model(path, TextEncoder)


def write_labelled(path: Path) -> Path:
    """The labelled sentences as JSON splits, those without a label beside them."""
    labelled = [list(pair) for pair in LABELLED]
    content = {"train": labelled, "val": labelled, "test": labelled, "oos_test": [[text, "oos"] for text in OUTSIDE]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_tagged(path: Path) -> Path:
    """The tagged sentences, a word and its tag a line."""
    sentences = ("\n".join(word.replace("/", "\t") for word in sentence.split()) for sentence in TAGGED)
    path.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return path
