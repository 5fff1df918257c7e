"""``dragoman evaluate`` of a language model: how well the checkpoint knows a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from dragoman_model.checkpoint import load_model
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_evaluation import TextEvaluation, evaluate_texts
from dragoman_model.language_model_recipe import documents_of


def evaluate_text_files(model: Path, data: Sequence[Path], *, last: float) -> TextEvaluation:
    """Score the last share of each file, cut into documents as the recipe cut its own.

    CheckpointError or DataError if the model or a file cannot be used.
    """
    trained = load_model(model, LanguageModel)
    return evaluate_texts(trained, data, last=last, documents=documents_of(trained.provenance.recipe))


def text_table(evaluation: TextEvaluation) -> RenderableType:
    """One line."""
    table = Table("nats/character", "perplexity/token", "characters", "tokens", "stride", box=None)
    table.add_row(
        f"{evaluation.nats_per_character:.4f}",
        f"{evaluation.score.perplexity:.2f}",
        f"{evaluation.characters:,}",
        f"{evaluation.score.tokens:,}",
        f"{evaluation.stride}",
    )
    return table


def text_json(evaluation: TextEvaluation) -> str:
    """The same as one JSON object."""
    return json.dumps({
        "nats_per_character": evaluation.nats_per_character,
        "perplexity": evaluation.score.perplexity,
        "characters": evaluation.characters,
        "tokens": evaluation.score.tokens,
        "stride": evaluation.stride,
    })  # fmt: skip
