"""A small language model, a text of our own, and a recipe that learns it in seconds."""

from __future__ import annotations

from pathlib import Path

import torch

from dragoman_model.checkpoint import Provenance, TrainedModel, load_model, save_model
from dragoman_model.config import DecoderConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.tokenizer import train_text_tokenizer

VERSES = """The baker sings before the dawn,
the miller hums along;
the river turns the heavy wheel
and carries off their song.

The sailor mends a broken net,
the harbour bell is slow;
the gulls are waiting on the wall
to see the big ships go.

"""
TEXT = VERSES * 12


def small_language_model(seed: int = 0, /, **changes: object) -> LanguageModel:
    fields: dict[str, object] = {
        "vocabulary": 40,
        "d_model": 16,
        "num_heads": 2,
        "d_ff": 32,
        "decoder_layers": 2,
        "max_length": 16,
        "dropout": 0.0,
    }
    torch.manual_seed(seed)
    model = LanguageModel(DecoderConfig.model_validate({**fields, **changes}))
    with torch.no_grad():  # biases and norms too, so that each of them can be seen in the result
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save_text_checkpoint(folder: Path) -> TrainedModel[LanguageModel]:
    """A model with random weights over the vocabulary of TEXT; returned as it is read back."""
    tokenizer = train_text_tokenizer([TEXT], 300)
    model = small_language_model(vocabulary=tokenizer.get_vocab_size())
    provenance = Provenance("verses", "", [], [], "", 0, "sentences of our own", "CC0-1.0", "")
    save_model(folder, dict(model.state_dict()), model.config, tokenizer, provenance)
    return load_model(folder, LanguageModel)


def write_text_recipe(folder: Path, *, text: str = TEXT, head: str = "", data: str = "", **training: object) -> Path:
    """``head`` goes to the top of the recipe (such as init_from), ``data`` into its section."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    settings: dict[str, object] = {
        "batch_tokens": 96,
        "max_updates": 12,
        "max_tokens": 24,
        "learning_rate": 1e-2,
        "muon_learning_rate": 1e-2,
        "warmup": 2,
        "cooldown": 4,
        "label_smoothing": 0.0,
        "validate_every": 4,
        "save_every": 4,
        "keep": 2,
        "seed": 7,
        **training,
    }
    lines = "\n".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in settings.items())
    tokenizer = "" if "init_from" in head else "[tokenizer]\nvocabulary = 300\n"
    path = folder / "recipe.toml"
    path.write_text(
        f"""name = "verses"
task = "language-model"
{head}
[data]
files = ["text.txt"]
train_share = 0.8
valid_share = 0.1
licence = "CC0-1.0"
{data}
{tokenizer}
[model]
d_model = 16
num_heads = 2
d_ff = 32
decoder_layers = 1
max_length = 24
dropout = 0.1
[training]
{lines}
""",
        encoding="utf-8",
    )
    return path
