"""Recipes, schedules: validated whole, every fault named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_model.recipe import RecipeError
from dragoman_model.schedule import learning_rate_factor
from dragoman_model.tasks import load_recipe
from dragoman_model.translation_recipe import TranslationRecipe
from tests.unit.model.small import write_recipe

RECIPES = Path(__file__).parents[3] / "model" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path).name


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    assert isinstance(recipe, TranslationRecipe)
    assert (recipe.data.root / recipe.data.train[0]).is_file()


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, optimizer="sgd", warmup=-1, surprise=1)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for word in ("training.optimizer", "training.warmup", "training.surprise", "recipe.toml"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("num_heads = 2", "num_heads = 3", "multiple of num_heads"),
        ('columns = ["en", "de"]', 'columns = ["en", "fr"]', "are not among languages"),
        ("max_length = 32", "max_length = 16", "max_tokens = 32 exceeds max_length = 16"),
        ("keep = 3", "keep = 1", "average = 2 needs as many checkpoints kept"),
        ("cooldown = 4", "cooldown = 40", "exceed max_updates"),
        ('[["en", "de"], ["de", "en"]]', '[["en", "en"]]', "needs both columns"),
        ("[model]", "[model", "recipe.toml"),
    ],
)
def test_faults_between_fields(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        load_recipe(path)


def test_a_missing_recipe_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "absent.toml")


def test_schedules_by_hand() -> None:
    def factor(update: int, decay: str) -> float:
        return learning_rate_factor(update, warmup=4, decay=decay, max_updates=20, cooldown=8)  # type: ignore[arg-type]

    for decay in ("inverse_sqrt", "cosine", "cooldown"):
        assert [factor(u, decay) for u in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(15, "inverse_sqrt") == pytest.approx(0.5)
    assert factor(12, "cosine") == pytest.approx(0.5)
    assert factor(20, "cosine") == pytest.approx(0.0)
    assert factor(11, "cooldown") == 1.0
    assert factor(14, "cooldown") == pytest.approx(1 - (2 / 8) ** 0.5)
    assert factor(20, "cooldown") == pytest.approx(0.0)
