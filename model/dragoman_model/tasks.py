"""The tasks that a recipe can name, and how each of them is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dragoman_model.language_model_recipe import LanguageModelRecipe
from dragoman_model.language_model_task import LanguageModelTask
from dragoman_model.recipe import BaseRecipe, read_recipe
from dragoman_model.task import Say, Start, Task, make_start
from dragoman_model.translation_recipe import TranslationRecipe
from dragoman_model.translation_task import TranslationTask

RecipeT = TypeVar("RecipeT", bound=BaseRecipe)


@dataclass(frozen=True)
class _Kind(Generic[RecipeT]):
    recipe: type[RecipeT]
    open: Callable[[RecipeT, Start], Task]


_DEFAULT = "translation"
_KINDS: dict[str, _Kind[Any]] = {
    _DEFAULT: _Kind(TranslationRecipe, TranslationTask),
    "language-model": _Kind(LanguageModelRecipe, LanguageModelTask),
}


def load_recipe(path: Path) -> BaseRecipe:
    """The recipe in a TOML file, of the ``task`` that it names (or translation). RecipeError lists every fault."""
    return read_recipe(path, {task: kind.recipe for task, kind in _KINDS.items()}, _DEFAULT)


def open_task(recipe: BaseRecipe, recipe_text: str, say: Say, resumed: Path | None = None) -> Task:
    """Read the data and make the model; ``resumed``: the model's folder in the checkpoint that the run goes on from.

    DataError, RecipeError or CheckpointError if the data, the recipe for them, or ``init_from`` cannot be used.
    """
    kind = next(kind for kind in _KINDS.values() if type(recipe) is kind.recipe)
    return kind.open(recipe, make_start(recipe, recipe_text, say, resumed))
