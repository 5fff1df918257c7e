"""``dragoman evaluate`` of an encoder's checkpoint: how well it labels texts or tags words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from dragoman_model.checkpoint import load_model
from dragoman_model.encoder_evaluation import EncoderEvaluation, evaluate_encoder
from dragoman_model.text_encoder import TextEncoder


def evaluate_label_files(model: Path, data: Sequence[Path]) -> EncoderEvaluation:
    """Score the test split of files that are like the recipe's, or all of a file that holds one split.

    CheckpointError or DataError if the model or a file cannot be used.
    """
    return evaluate_encoder(load_model(model, TextEncoder), data, "test")


def label_table(evaluation: EncoderEvaluation) -> RenderableType:
    """One line, in percent."""
    table = Table(*evaluation.scores, "texts", "scored", box=None)
    table.add_row(
        *(f"{100 * share:.2f}%" for share in evaluation.scores.values()),
        f"{evaluation.texts:,}",
        f"{evaluation.targets:,}",
    )
    return table


def label_json(evaluation: EncoderEvaluation) -> str:
    """The same as one JSON object, shares from 0 to 1."""
    scores = {name.replace(" ", "_").replace("-", "_"): share for name, share in evaluation.scores.items()}
    return json.dumps({**scores, "texts": evaluation.texts, "scored": evaluation.targets})
