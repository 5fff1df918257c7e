"""Small encoders, texts and recipes for the tests of the encoder-only family; all sentences are our own."""

from __future__ import annotations

from pathlib import Path

import torch

from dragoman_model.config import EncoderConfig
from dragoman_model.text_encoder import TextEncoder

LABELLED = [
    ("weather", "will it rain tomorrow"),
    ("weather", "is it cold outside"),
    ("weather", "do i need an umbrella"),
    ("weather", "how warm is it today"),
    ("music", "play a slow song"),
    ("music", "turn the radio on"),
    ("music", "i want to hear jazz"),
    ("music", "skip this song"),
    ("time", "what time is it"),
    ("time", "set an alarm for seven"),
    ("time", "wake me up at six"),
    ("time", "how late is it now"),
]
TAGGED = [
    ["we/PRON", "sing/VERB", "songs/NOUN", "./PUNCT"],
    ["the/DET", "old/ADJ", "dog/NOUN", "sleeps/VERB", "./PUNCT"],
    ["she/PRON", "reads/VERB", "the/DET", "letters/NOUN", "./PUNCT"],
    ["a/DET", "small/ADJ", "bird/NOUN", "sings/VERB"],
    ["they/PRON", "close/VERB", "the/DET", "door/NOUN", "!/PUNCT"],
]
STORY = """she opened the door.
the room was dark.
she looked for a lamp.
nobody was there.

the ship left at night.
the sea was calm.
a bird followed the ship.
in the morning they saw land.
"""


def small_encoder_config(**changes: object) -> EncoderConfig:
    fields: dict[str, object] = {
        "vocabulary": 40,
        "d_model": 16,
        "num_heads": 2,
        "d_ff": 32,
        "encoder_layers": 2,
        "max_length": 32,
        "dropout": 0.0,
        "segments": 2,
        "labels": ["a", "b", "c"],
        "tags": ["x", "y"],
        "mask_head": True,
        "next_sentence": True,
    }
    return EncoderConfig.model_validate({**fields, **changes})


def small_encoder(seed: int = 0, /, **changes: object) -> TextEncoder:
    torch.manual_seed(seed)
    return TextEncoder(small_encoder_config(**changes)).eval()


def write_labelled(path: Path) -> Path:
    path.write_text("".join(f"{label}\t{text}\n" for label, text in LABELLED), encoding="utf-8")
    return path


def write_tagged(path: Path) -> Path:
    lines = ["\n".join(word.replace("/", "\t") for word in sentence) for sentence in TAGGED]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


CLASSIFICATION = """task = "classification"
[data]
[data.source]
format = "tsv"
files = { train = "texts.tsv", valid = "texts.tsv", test = "texts.tsv" }
"""
TAGGING = """task = "tagging"
[data]
train = "words.tsv"
valid = "words.tsv"
"""
SENTENCES = """task = "masked-language-model"
[data]
train = [{ file = "story.txt", ordered = true }, { file = "texts.tsv", column = 1 }]
valid = [{ file = "story.txt", ordered = true }]
lowercase_share = 0.5
next_sentence = true
"""


def write_encoder_recipe(
    folder: Path, task: str, *, extra: str = "", init_from: Path | None = None, **training: object
) -> Path:
    """A recipe over the texts above that trains in seconds; ``task`` is one of the three heads of a recipe above."""
    write_labelled(folder / "texts.tsv")
    write_tagged(folder / "words.tsv")
    (folder / "story.txt").write_text(STORY, encoding="utf-8")
    settings: dict[str, object] = {
        "batch_tokens": 200,
        "max_updates": 12,
        "max_tokens": 32,
        "learning_rate": 1e-2,
        "warmup": 2,
        "cooldown": 4,
        "validate_every": 6,
        "save_every": 6,
        "keep": 2,
        "seed": 7,
        "label_smoothing": 0.0,
        "precision": "float32",
        **training,
    }
    lines = "\n".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in settings.items())
    shape = (
        "[tokenizer]\nvocabulary = 340\n[model]\nd_model = 32\nnum_heads = 2\nd_ff = 64\nencoder_layers = 1\n"
        "max_length = 40\ndropout = 0.0\nsegments = 2\n"
    )
    begin = f'init_from = "{init_from}"\n' if init_from else ""
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "tiny"\n{begin}{task}{"" if init_from else shape}{extra}[training]\n{lines}\n',
        encoding="utf-8",
    )
    return path
