"""A recipe: one TOML file that says everything about one training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dragoman_model.config import Config
from dragoman_model.schedule import Decay


class RecipeError(Exception):
    """The recipe is missing, not TOML, or has faults; the message lists all of them."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageSection(_Section):
    """A language of the model."""

    code: str = Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    name: str = Field(min_length=1)


class DataSection(_Section):
    """Where the sentence pairs are: each split one TSV file, or two parallel ones."""

    root: Path = Path()
    """Relative to the recipe's file."""
    train: list[Path] = Field(min_length=1, max_length=2)
    valid: list[Path] = Field(min_length=1, max_length=2)
    test: list[Path] = Field(default_factory=list, max_length=2)
    columns: tuple[str, str]
    """Language codes of the first and second column (or file)."""
    directions: list[tuple[str, str]] = Field(min_length=1)
    """(source, target) language codes to train."""
    description: str = ""
    licence: str = ""
    attribution: str = ""


class TokenizerSection(_Section):
    """The vocabulary to learn."""

    vocabulary: int = Field(default=8000, ge=300)


class TrainingSection(_Section):
    """How to train."""

    seed: int = 1
    batch_tokens: int = Field(default=4096, gt=0)
    """Padded tokens of a batch, of the longer side, on each device."""
    accumulate: int = Field(default=1, gt=0)
    """Batches whose gradients make one update."""
    max_updates: int = Field(gt=0)
    max_tokens: int = Field(default=128, gt=1)
    """Sentences with a longer side are left out."""
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
    average: int = Field(default=1, gt=0)
    """Checkpoints, the newest ones, whose mean is the result."""
    result: Literal["float32", "float16"] = "float32"
    """How the result is stored; rounded to float16 it is half as large, and that is the model from then on."""
    patience: int = Field(default=0, ge=0)
    """Validations without a better loss after which the run stops; 0: never."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average > self.keep:
            raise ValueError(f"average = {self.average} needs as many checkpoints kept, keep = {self.keep}")
        if self.cooldown + self.warmup > self.max_updates:
            raise ValueError(
                f"warmup + cooldown = {self.warmup + self.cooldown} exceed max_updates = {self.max_updates}"
            )
        return self


class Recipe(_Section):
    """All of it, validated once."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    languages: list[LanguageSection] = Field(min_length=1)
    data: DataSection
    tokenizer: TokenizerSection = TokenizerSection()
    model: dict[str, Any]
    """Fields of ``Config`` but for the vocabulary, which the tokenizer gives."""
    training: TrainingSection

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        codes = [language.code for language in self.languages]
        named = {*self.data.columns, *(code for pair in self.data.directions for code in pair)}
        unknown = sorted(named - set(codes))
        if unknown:
            raise ValueError(f"data names languages {unknown} that are not among languages {codes}")
        for source, target in self.data.directions:
            if {source, target} != set(self.data.columns):
                raise ValueError(f"direction {source}-{target} needs both columns {self.data.columns}")
        config = Config(vocabulary=self.tokenizer.vocabulary, **self.model)
        if self.training.max_tokens > config.max_length:
            raise ValueError(f"max_tokens = {self.training.max_tokens} exceeds max_length = {config.max_length}")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read and validate; the data root becomes absolute. RecipeError lists every fault."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        faults = [
            f"  {'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']} (got {e['input']!r:.60})" for e in error.errors()
        ]
        raise RecipeError(f"{path}:\n" + "\n".join(faults)) from error
    root = (path.parent / recipe.data.root).resolve()
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": root})})
