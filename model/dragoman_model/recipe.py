"""A recipe: one TOML file that says everything about one training run."""

from __future__ import annotations

import tomllib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dragoman_model.config import BaseConfig
from dragoman_model.schedule import Decay


class RecipeError(Exception):
    """The recipe is missing, not TOML, or has faults; the message lists all of them."""


class Section(BaseModel):
    """A table of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageSection(Section):
    """A language of the model."""

    code: str = Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    name: str = Field(min_length=1)


class DataSection(Section):
    """Where the data are, and what may be done with them; each task adds its files."""

    root: Path = Path()
    """Relative to the recipe's file."""
    description: str = ""
    licence: str = ""
    attribution: str = ""


class TokenizerSection(Section):
    """The vocabulary to learn."""

    vocabulary: int = Field(default=8000, ge=300)


class TrainingSection(Section):
    """How to train."""

    seed: int = 1
    batch_tokens: int = Field(default=4096, gt=0)
    """Padded tokens of a batch, of the longer side where there are two, on each device."""
    accumulate: int = Field(default=1, gt=0)
    """Batches whose gradients make one update."""
    max_updates: int = Field(gt=0)
    max_tokens: int = Field(default=128, gt=1)
    """Longest text that is trained on; what becomes of longer ones is up to the task."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: Muon for the matrices inside the layers, AdamW for all else."""
    learning_rate: float = Field(default=1e-3, gt=0)
    muon_learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = Field(default=500, ge=0)
    decay: Decay = "cooldown"
    cooldown: int = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    validate_every: int = Field(default=500, gt=0)
    save_every: int = Field(default=500, gt=0)
    keep: int = Field(default=5, gt=0)
    """Checkpoints that stay on disk."""
    result_checkpoint: Literal["average", "best"] | None = None
    """``average``: the mean of the newest ``average`` checkpoints; ``best``: the weights at the best validation.

    Default: the best where ``patience`` is set, since such a run ends after it, and the average otherwise.
    """
    average: int = Field(default=1, gt=0)
    best_by: str = "loss"
    """What decides which validation is the best: the loss (low), or one of the task's metrics (high)."""
    result: Literal["float32", "float16"] = "float32"
    """How the result is stored; rounded to float16 it is half as large, and that is the model from then on."""
    patience: int = Field(default=0, ge=0)
    """Validations without a better one after which the run stops; 0: never."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.takes_best and self.average > 1:
            raise ValueError(f"average = {self.average}: the result is the best checkpoint, which is one")
        if self.average > self.keep:
            raise ValueError(f"average = {self.average} needs as many checkpoints kept, keep = {self.keep}")
        if self.cooldown + self.warmup > self.max_updates:
            raise ValueError(
                f"warmup + cooldown = {self.warmup + self.cooldown} exceed max_updates = {self.max_updates}"
            )
        return self

    @property
    def takes_best(self) -> bool:
        """Whether the result is the best checkpoint rather than the newest."""
        return self.result_checkpoint == "best" or (self.result_checkpoint is None and self.patience > 0)


class BaseRecipe(Section):
    """What recipes of all tasks say; each task adds its data, its config and a ``task`` by which it is known."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    init_from: Path | None = None
    """Checkpoint whose tokenizer, shape and weights the run starts from, relative to the recipe's file."""
    data: DataSection
    tokenizer: TokenizerSection = TokenizerSection()
    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of the model's config but for what the data give. With ``init_from``: those that shall differ."""
    training: TrainingSection

    @abstractmethod
    def config(self, vocabulary: int, **inherited: Any) -> BaseConfig:
        """The model's shape, with the fields that a checkpoint started from or the data give; ValidationError."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.init_from is not None:
            # The shape is checked when the checkpoint is read: a recipe is valid without the other run's result.
            if "tokenizer" in self.model_fields_set:
                raise ValueError("init_from brings its own tokenizer: leave out the section tokenizer")
            return self
        config = self.config(self.tokenizer.vocabulary)
        if self.training.max_tokens > config.max_length:
            raise ValueError(f"max_tokens = {self.training.max_tokens} exceeds max_length = {config.max_length}")
        return self


def faults(error: ValidationError) -> str:
    """One line for each fault."""
    return "\n".join(
        f"  {'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']} (got {e['input']!r:.60})" for e in error.errors()
    )


def read_recipe(path: Path, kinds: Mapping[str, type[BaseRecipe]], default: str) -> BaseRecipe:
    """Read and validate as the recipe of its ``task``; paths become absolute. RecipeError lists every fault."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    task = raw.get("task", default)
    if task not in kinds:
        raise RecipeError(f"{path}:\n  task: must be one of {', '.join(kinds)} (got {task!r:.60})")
    try:
        recipe = kinds[task].model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{path}:\n{faults(error)}") from error
    root = (path.parent / recipe.data.root).resolve()
    changes: dict[str, Any] = {"data": recipe.data.model_copy(update={"root": root})}
    if recipe.init_from is not None:
        changes["init_from"] = (path.parent / recipe.init_from).resolve()
    return recipe.model_copy(update=changes)
