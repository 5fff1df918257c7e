"""A checkpoint to be exported, or to be compared with a bundle."""

from __future__ import annotations

from pathlib import Path

from dragoman_model.checkpoint import CheckpointError, TrainedModel, load_model
from dragoman_model.families import ServedModel
from dragoman_model.recurrent import RecurrentTranslator


def load_served(path: Path) -> TrainedModel[ServedModel]:
    """The checkpoint in ``path``; raises CheckpointError where there is none, or its model has no graphs."""
    trained = load_model(path)
    model = trained.model
    if isinstance(model, RecurrentTranslator):
        kind = type(model).__name__
        raise CheckpointError(f"{path} holds a {kind}: recurrent models are trained to be compared with, not served")
    return TrainedModel(model, trained.tokenizer, trained.provenance, trained.sha256)
