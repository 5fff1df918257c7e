"""A tiny Transformer with random weights, its checkpoint, and sentences of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dragoman_model.checkpoint import Provenance, TrainedModel, load_model, save_model
from dragoman_model.config import Config
from dragoman_model.language_model import LanguageModel
from dragoman_model.recipe import LanguageSection
from dragoman_model.tokenizer import train_tokenizer
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Dimensions

PAIRS = [
    ("The harbour lies below the old town.", "Der Hafen liegt unter der alten Stadt."),
    ("Nobody has seen the green bicycle.", "Niemand hat das grüne Fahrrad gesehen."),
    ("My sister grows beans.", "Meine Schwester zieht Bohnen."),
    ("Is the bridge closed?", "Ist die Brücke gesperrt?"),
    ("They sang until midnight.", "Sie sangen bis Mitternacht."),
    ("I need a longer ladder.", "Ich brauche eine längere Leiter."),
    ("The lamp flickers.", "Die Lampe flackert."),
    ("Where did you put the scissors?", "Wo hast du die Schere hingelegt?"),
    ("It has been raining since Tuesday.", "Es regnet seit Dienstag."),
    ("He laughed.", "Er lachte."),
]
ModelT = TypeVar("ModelT", bound=nn.Module)
RECIPE = 'name = "tiny"\n[data]\ncolumns = ["en", "de"]\ntest = ["pairs.tsv"]\n[training]\nmax_tokens = 40\n'


def make_model(seed: int = 1, **choices: Any) -> Transformer:
    """Random weights, biases and norms included, so that each of them can be seen in the result."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocabulary": 300, "d_model": 32, "num_heads": 4, "d_ff": 64, "max_length": 48}
    config = Config(**(sizes | {"encoder_layers": 2, "decoder_layers": 2} | choices))
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def dimensions(model: Transformer | LanguageModel) -> Dimensions:
    """What a runtime has to know of a model whose graphs give 16 candidates."""
    config = model.config
    return Dimensions(
        vocabulary=config.vocabulary,
        d_model=config.d_model,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        decoder_layers=config.decoder_layers,
        top_k=16,
    )


def rounded_to_half(model: ModelT) -> ModelT:
    """The same model, with weights such as a checkpoint in float16 has them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def save_checkpoint(path: Path, seed: int = 1, *, half: bool = False, **choices: Any) -> TrainedModel[Transformer]:
    """A checkpoint of both directions, its weights rounded to float16 if ``half``; returned as it is read back."""
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], 300, ["de", "en"])
    model = make_model(seed, vocabulary=tokenizer.get_vocab_size(with_added_tokens=True), **choices)
    if half:
        rounded_to_half(model)
    provenance = Provenance(
        name="tiny",
        description="For tests",
        languages=[LanguageSection(code="de", name="German"), LanguageSection(code="en", name="English")],
        directions=[("en", "de"), ("de", "en")],
        recipe=RECIPE,
        updates=0,
        training_data="sentences of our own",
        licence="CC0-1.0",
        attribution="",
    )
    save_model(path, dict(model.state_dict()), model.config, tokenizer, provenance)
    return load_model(path, Transformer)


def write_pairs(path: Path) -> Path:
    """The pairs as TSV, English first."""
    path.write_text("".join(f"{english}\t{german}\n" for english, german in PAIRS), encoding="utf-8")
    return path
