"""Small models and corpora for the tests of the model room; all sentences are our own."""

from __future__ import annotations

from pathlib import Path

import torch

from dragoman_model.config import Config
from dragoman_model.transformer import Transformer

PAIRS = [
    ("the cat sleeps", "die katze schläft"),
    ("the dog runs", "der hund rennt"),
    ("a bird sings", "ein vogel singt"),
    ("we drink tea", "wir trinken tee"),
    ("you read a book", "du liest ein buch"),
    ("the house is old", "das haus ist alt"),
    ("the street is long", "die straße ist lang"),
    ("my brother works today", "mein bruder arbeitet heute"),
    ("her sister writes letters", "ihre schwester schreibt briefe"),
    ("it rains", "es regnet"),
    ("the train is late again", "der zug kommt wieder zu spät"),
    ("nobody knows the answer", "niemand kennt die antwort"),
]


def small_config(**changes: object) -> Config:
    fields: dict[str, object] = {
        "vocabulary": 40,
        "d_model": 16,
        "num_heads": 2,
        "d_ff": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "max_length": 32,
        "dropout": 0.0,
    }
    return Config.model_validate({**fields, **changes})


def small_model(seed: int = 0, /, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(small_config(**changes)).eval()


def write_tsv(path: Path, repeat: int = 1) -> Path:
    path.write_text("".join(f"{en}\t{de}\n" for en, de in PAIRS * repeat), encoding="utf-8")
    return path


def write_recipe(folder: Path, **training: object) -> Path:
    """A recipe over PAIRS that trains in seconds."""
    write_tsv(folder / "train.tsv", repeat=4)
    write_tsv(folder / "valid.tsv")
    settings: dict[str, object] = {
        "batch_tokens": 120,
        "max_updates": 12,
        "max_tokens": 32,
        "learning_rate": 3e-3,
        "muon_learning_rate": 3e-3,
        "warmup": 2,
        "cooldown": 4,
        "validate_every": 4,
        "save_every": 4,
        "keep": 3,
        "average": 2,
        "seed": 7,
        **training,
    }
    lines = "\n".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in settings.items())
    path = folder / "recipe.toml"
    path.write_text(
        f"""name = "tiny"
languages = [{{ code = "de", name = "German" }}, {{ code = "en", name = "English" }}]
[data]
train = ["train.tsv"]
valid = ["valid.tsv"]
columns = ["en", "de"]
directions = [["en", "de"], ["de", "en"]]
licence = "CC0-1.0"
[tokenizer]
vocabulary = 320
[model]
d_model = 16
num_heads = 2
d_ff = 32
encoder_layers = 1
decoder_layers = 1
max_length = 32
dropout = 0.1
[training]
{lines}
""",
        encoding="utf-8",
    )
    return path
