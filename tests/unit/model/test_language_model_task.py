"""Training a language model: it learns, resumes, starts from a checkpoint, and says what is wrong with a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dragoman_model.checkpoint import load_model
from dragoman_model.data import DataError
from dragoman_model.distributed import World
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_task import LanguageModelTask
from dragoman_model.recipe import RecipeError
from dragoman_model.tasks import load_recipe, open_task
from dragoman_model.trainer import Trainer, checkpoints
from tests.unit.model.small import write_recipe
from tests.unit.model.small_text import TEXT, write_text_recipe


def task_for(recipe: Path, resumed: Path | None = None) -> LanguageModelTask:
    task = open_task(load_recipe(recipe), recipe.read_text(encoding="utf-8"), lambda text: None, resumed)
    assert isinstance(task, LanguageModelTask)
    return task


def trainer_for(recipe: Path, folder: Path, resumed: Path | None = None) -> Trainer:
    return Trainer(task_for(recipe, resumed), folder, World(rank=0, size=1, device=torch.device("cpu")))


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def test_it_learns_a_text(tmp_path: Path) -> None:
    recipe = write_text_recipe(tmp_path, optimizer="muon", max_updates=60, cooldown=20, validate_every=30)
    trainer = trainer_for(recipe, tmp_path / "run")
    before = trainer.validation_loss()
    result = load_model(trainer.run(resume=False), LanguageModel)
    last = history(tmp_path / "run")[-1]
    assert last["validation_loss"] < 0.7 * before
    assert 0 < last["nats_per_character"] < last["validation_loss"]
    assert result.provenance.languages == []
    assert result.provenance.licence == "CC0-1.0"


def test_a_resumed_run_has_the_same_weights(tmp_path: Path) -> None:
    recipe = write_text_recipe(tmp_path)
    whole = trainer_for(recipe, tmp_path / "whole").run(resume=False)
    interrupted = trainer_for(recipe, tmp_path / "parts")
    stream = interrupted._stream()
    for _ in range(4):
        interrupted._update(stream)
        interrupted.progress.update += 1
    interrupted._save()
    torch.manual_seed(999)
    found = checkpoints(tmp_path / "parts")[-1] / "model"
    resumed = trainer_for(recipe, tmp_path / "parts", found).run(resume=True)
    expected, actual = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_fine_tuning_starts_from_the_checkpoints_loss(tmp_path: Path) -> None:
    first = trainer_for(write_text_recipe(tmp_path / "first", max_updates=40), tmp_path / "run")
    first.run(resume=False)
    reached = history(tmp_path / "run")[-1]["validation_loss"]
    recipe = write_text_recipe(tmp_path / "second", head='init_from = "../run/model"')
    # Only what shall differ: the shape comes with the checkpoint.
    text = recipe.read_text(encoding="utf-8")
    begin, end = text.index("[model]"), text.index("[training]")
    recipe.write_text(text[:begin] + "[model]\ndropout = 0.0\n" + text[end:], encoding="utf-8")
    second = trainer_for(recipe, tmp_path / "tuned")
    assert second.task.config.dropout == 0.0
    assert second.task.config.d_model == 16
    assert second.task.tokenizer.to_str() == first.task.tokenizer.to_str()
    assert second.validation_loss() == pytest.approx(reached, abs=1e-3)
    second.run(resume=False)
    assert history(tmp_path / "tuned")[-1]["validation_loss"] < reached
    # It goes on without the checkpoint that it started from.
    (tmp_path / "run" / "model").rename(tmp_path / "gone")
    trainer_for(recipe, tmp_path / "tuned", checkpoints(tmp_path / "tuned")[-1] / "model").run(resume=True)


def test_a_checkpoint_of_another_family_is_no_start(tmp_path: Path) -> None:
    pairs = write_recipe(tmp_path, max_updates=1, warmup=0, cooldown=0)
    task = open_task(load_recipe(pairs), pairs.read_text(encoding="utf-8"), lambda text: None)
    task.save(tmp_path / "translation", dict(task.model.state_dict()), 0)
    recipe = write_text_recipe(tmp_path / "text", head='init_from = "../translation"')
    with pytest.raises(RecipeError, match=r"with init_from, of the family encoder-decoder\):\n  encoder_layers"):
        task_for(recipe)


def test_an_epoch_has_every_token_at_most_once_and_a_new_offset(tmp_path: Path) -> None:
    task = task_for(write_text_recipe(tmp_path))
    begins = [np.sort(np.concatenate(list(task.order(epoch)))) for epoch in range(4)]
    assert all((np.diff(found) == 24).all() for found in begins)
    assert all(found[-1] + 24 <= len(task._stream) for found in begins)
    assert len({int(found[0]) for found in begins}) > 1
    assert [list(map(list, task.order(1)))] == [list(map(list, task.order(1)))]
    batch = task.batch(task.order(0)[0])
    assert batch.ids[0, 0] == task.config.bos_id
    assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])


def test_windows_in_order_follow_each_other(tmp_path: Path) -> None:
    task = task_for(write_text_recipe(tmp_path, data='windows = "in-order"'))
    begins = np.concatenate(list(task.order(3)))
    assert list(begins) == list(range(0, len(begins) * 24, 24))


def test_paragraphs_end_and_begin(tmp_path: Path) -> None:
    task = task_for(write_text_recipe(tmp_path, data='documents = "paragraphs"'))
    ends = np.flatnonzero(task._stream == task.config.eos_id)
    assert len(ends) >= 18
    assert (task._stream[ends[:-1] + 1] == task.config.bos_id).all()
    assert ends[-1] == len(task._stream) - 1


def test_the_vocabulary_is_learnt_from_the_training_part_alone(tmp_path: Path) -> None:
    held_out = "zyx" * (len(TEXT) // 12)
    with_other_end = task_for(write_text_recipe(tmp_path / "a", text=TEXT + held_out))
    assert "zyx" not in with_other_end.tokenizer.get_vocab()
    assert max(map(len, with_other_end.tokenizer.get_vocab())) > 3


def test_recipe_faults_are_listed(tmp_path: Path) -> None:
    recipe = write_text_recipe(tmp_path, warmup=-1, data="valid_share_ = 1")
    text = recipe.read_text(encoding="utf-8").replace('files = ["text.txt"]', "files = []")
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    for word in ("training.warmup", "data.valid_share_", "data.files"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("train_share = 0.8", "train_share = 0.95", r"train_share \+ valid_share = 1.05 exceed 1"),
        ('task = "language-model"', 'task = "poetry"', "task: must be one of translation, masked-language-model"),
        ("max_length = 24", "max_length = 23", "max_tokens = 24 exceeds max_length = 23"),
        ("[tokenizer]", 'init_from = "x"\n[tokenizer]', "data.init_from"),
        ("[data]", 'init_from = "x"\n[data]', "brings its own tokenizer"),
        ("[training]", "[training]\npatience = 2\naverage = 2", "the best checkpoint, which is one"),
    ],
)
def test_faults_between_fields(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = write_text_recipe(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_what_only_the_task_knows_is_checked_when_it_opens(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"best_by: must be one of loss"):
        task_for(write_text_recipe(tmp_path / "a", best_by="beauty"))
    with pytest.raises(DataError, match=r"valid has \d+ tokens, a window 24"):
        task_for(write_text_recipe(tmp_path / "b", text=TEXT[:300]))
