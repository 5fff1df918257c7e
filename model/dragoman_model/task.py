"""What a run trains: the one face that every task shows to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from pydantic import ValidationError
from tokenizers import Tokenizer
from torch import Tensor, nn

from dragoman_model.batching import Indices
from dragoman_model.checkpoint import Provenance, TrainedModel, load_model, save_model
from dragoman_model.config import ModelConfig
from dragoman_model.families import AnyModel, build_model
from dragoman_model.recipe import BaseRecipe, RecipeError, faults
from dragoman_model.tokenizer import load_tokenizer

Say = Callable[[str], None]


class TrainingBatch(Protocol):
    """Collated examples."""

    @property
    def tokens(self) -> int:
        """Targets that count: what sums over the batch are divided by."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        ...


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    recipe_text: str
    say: Say
    tokenizer: Tokenizer | None = None
    """That of a resumed run, or of the checkpoint started from; None: to be learnt."""
    trained: TrainedModel[AnyModel] | None = None
    """The checkpoint started from."""


def make_start(recipe: BaseRecipe, recipe_text: str, say: Say, resumed: Path | None) -> Start:
    """Read what the recipe starts from; ``resumed`` is the model's folder of the run that goes on.

    CheckpointError if ``init_from`` holds no model.
    """
    if recipe.init_from is not None:
        # A resumed run has that checkpoint's shape, and needs it no more.
        trained = load_model(resumed or recipe.init_from)
        return Start(recipe_text, say, trained.tokenizer, trained)
    tokenizer = None if resumed is None else load_tokenizer(resumed / "tokenizer.json")
    return Start(recipe_text, say, tokenizer)


class Task(ABC):
    """A model and the data that it learns from.

    Where ``batch`` leaves something to chance, it draws from torch's generator, whose state checkpoints hold.
    """

    best_by: tuple[str, ...] = ("loss",)
    """What a recipe's ``best_by`` may name: the loss, and those keys of ``metrics`` of which more is better."""

    def __init__(self, recipe: BaseRecipe, start: Start, tokenizer: Tokenizer, **data_fields: Any) -> None:
        """``data_fields``: fields of the config that the data give, such as labels."""
        self.recipe = recipe
        self.recipe_text = start.recipe_text
        self.tokenizer = tokenizer
        self.config = _shape(recipe, start, tokenizer.get_vocab_size(), data_fields)
        if recipe.training.best_by not in self.best_by:
            raise RecipeError(f"training.best_by: must be one of {', '.join(self.best_by)}")
        torch.manual_seed(recipe.training.seed)
        self.model: AnyModel = build_model(self.config)
        if start.trained is not None:
            start.say(take_weights(self.model, start.trained.model.state_dict()))

    @property
    @abstractmethod
    def examples(self) -> int:
        """How many there are to train on."""

    @abstractmethod
    def order(self, epoch: int) -> Sequence[Indices]:
        """What each batch of an epoch is made of: a function of the seed and the epoch alone, so that runs resume."""

    @abstractmethod
    def batch(self, indices: Indices) -> TrainingBatch:
        """Collate one entry of ``order``."""

    @abstractmethod
    def validation(self, rank: int, size: int) -> Iterator[TrainingBatch]:
        """Every ``size``-th validation batch from ``rank`` on, always the same ones."""

    @abstractmethod
    def objective(self) -> nn.Module:
        """forward(batch) -> (summed loss, summed log-likelihood in nats), both over the batch's ``tokens``."""

    def metrics(self) -> dict[str, float]:
        """Further figures of the model, which is in evaluation mode, on the validation data."""
        return {}

    def provenance(self, updates: int) -> Provenance:
        """Where the model comes from."""
        recipe = self.recipe
        return Provenance(
            name=recipe.name,
            description=recipe.description,
            languages=[],
            directions=[],
            recipe=self.recipe_text,
            updates=updates,
            training_data=recipe.data.description,
            licence=recipe.data.licence,
            attribution=recipe.data.attribution,
        )

    def save(self, folder: Path, state: dict[str, Tensor], updates: int) -> None:
        """Write a checkpoint of the model with the weights ``state``."""
        save_model(folder, state, self.config, self.tokenizer, self.provenance(updates))


def _shape(recipe: BaseRecipe, start: Start, vocabulary: int, data_fields: dict[str, Any]) -> ModelConfig:
    inherited = {} if start.trained is None else start.trained.model.config.model_dump(exclude={"family", "vocabulary"})
    try:
        config = recipe.config(vocabulary, **{**inherited, **data_fields})
    except ValidationError as error:
        of = "" if start.trained is None else f" (with init_from, of the family {start.trained.model.config.family})"
        raise RecipeError(f"model{of}:\n{faults(error)}") from error
    if recipe.training.max_tokens > config.max_length:
        raise RecipeError(f"max_tokens = {recipe.training.max_tokens} exceeds max_length = {config.max_length}")
    return config


def take_weights(model: nn.Module, state: dict[str, Tensor]) -> str:
    """Copy every weight whose name and shape the model has; returns what was taken. RecipeError if none fits."""
    own = model.state_dict()
    taken = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not taken:
        raise RecipeError("init_from: the checkpoint has no weight in common with the model")
    model.load_state_dict(taken, strict=False)
    fresh = sorted(set(own) - set(taken))
    text = f"{len(taken)} of {len(own)} weights from the checkpoint"
    return f"{text}; new: {', '.join(fresh)}" if fresh else text
