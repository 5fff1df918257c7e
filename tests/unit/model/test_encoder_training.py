"""Each encoder task learns a toy set, resumes step for step, and hands its weights on to the next task."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dragoman_model.checkpoint import load_model
from dragoman_model.classification_task import ClassificationTask, label_probabilities
from dragoman_model.data import DataError
from dragoman_model.distributed import World
from dragoman_model.encoder_batching import EncoderBatch, EncoderText, collate_texts, hide
from dragoman_model.encoder_objective import EncoderObjective
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.masked_language_task import MaskedLanguageTask
from dragoman_model.masking import Masking
from dragoman_model.recipe import RecipeError
from dragoman_model.tagging_task import TaggingTask
from dragoman_model.task import Task
from dragoman_model.tasks import load_recipe, open_task
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.trainer import Trainer
from tests.unit.model.small_encoder import (
    CLASSIFICATION,
    SENTENCES,
    TAGGING,
    small_encoder,
    small_encoder_config,
    write_encoder_recipe,
)

WORLD = World(rank=0, size=1, device=torch.device("cpu"))


def task_for(recipe: Path) -> Task:
    return open_task(load_recipe(recipe), recipe.read_text(encoding="utf-8"), lambda text: None)


def last(folder: Path) -> dict[str, float]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    entry: dict[str, float] = json.loads(lines[-1])
    return entry


@pytest.mark.parametrize(
    ("task", "masking"), [(CLASSIFICATION, ""), (TAGGING, "[masking]\nshare = 0.1\nweight = 0.5\n")]
)
def test_labels_and_tags_of_a_toy_set_are_learnt(tmp_path: Path, task: str, masking: str) -> None:
    recipe = write_encoder_recipe(tmp_path, task, extra=masking, max_updates=60, cooldown=20, validate_every=30)
    model_folder = Trainer(task_for(recipe), tmp_path / "run", WORLD).run(resume=False)
    assert last(tmp_path / "run")["accuracy"] == 1.0
    trained = load_model(model_folder, TextEncoder)
    assert (trained.model.mask_head is not None) == bool(masking)
    assert trained.provenance.languages == []


def test_hidden_tokens_are_learnt(tmp_path: Path) -> None:
    recipe = write_encoder_recipe(
        tmp_path, SENTENCES, extra="[masking]\nshare = 0.3\n", max_updates=50, cooldown=20, validate_every=25
    )
    task = task_for(recipe)
    assert isinstance(task, MaskedLanguageTask)
    trainer = Trainer(task, tmp_path / "run", WORLD)
    before = trainer.validation_loss()
    trainer.run(resume=False)
    assert last(tmp_path / "run")["validation_loss"] < 0.8 * before
    batch = task.batch(task.order(0)[0])
    assert batch.follows is not None
    assert set(batch.follows.tolist()) <= {-1, 0, 1}


def test_validation_is_always_the_same_and_is_shared_out(tmp_path: Path) -> None:
    task = task_for(write_encoder_recipe(tmp_path, SENTENCES, batch_tokens=60))
    assert isinstance(task, MaskedLanguageTask)
    whole = list(task.validation(0, 1))
    parts = [list(task.validation(rank, 2)) for rank in (0, 1)]
    again = [parts[number % 2][number // 2] for number in range(len(whole))]
    assert len(whole) > 2
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert one.hidden is not None
        assert other.hidden is not None
        assert torch.equal(one.hidden, other.hidden)


@pytest.mark.parametrize("task", [CLASSIFICATION, TAGGING, SENTENCES])
def test_a_resumed_run_has_the_same_weights(tmp_path: Path, task: str) -> None:
    extra = "[masking]\nshare = 0.2\n"
    recipe = write_encoder_recipe(tmp_path, task, extra=extra)
    whole = Trainer(task_for(recipe), tmp_path / "whole", WORLD).run(resume=False)
    Trainer(task_for(recipe), tmp_path / "parts", WORLD).run(resume=False)
    newest = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    torch.manual_seed(99)
    resumed = Trainer(task_for(recipe), tmp_path / "parts", WORLD).run(resume=True)
    expected, actual = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_fine_tuning_takes_layers_vocabulary_and_mask_head(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    start = Trainer(task_for(write_encoder_recipe(first, SENTENCES)), first / "run", WORLD).run(resume=False)
    recipe = write_encoder_recipe(
        second, CLASSIFICATION, extra="[model]\ndropout = 0.1\n[masking]\nshare = 0.1\nweight = 0.1\n", init_from=start
    )
    task = task_for(recipe)
    assert isinstance(task, ClassificationTask)
    old, new = load_file(start / "model.safetensors"), task.model.state_dict()
    assert set(old) - set(new) == {"next_sentence.weight", "next_sentence.bias"}
    assert set(new) - set(old) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(old[name], new[name]) for name in set(old) & set(new))
    assert (task.config.dropout, task.config.labels) == (0.1, ["music", "time", "weather"])
    assert task.tokenizer.get_vocab_size() == task.config.vocabulary


def test_the_threshold_is_stored_with_the_weights(tmp_path: Path) -> None:
    recipe = write_encoder_recipe(tmp_path, CLASSIFICATION, max_updates=40, cooldown=10, validate_every=20)
    splits = {
        "train": [
            ["play a song", "music"],
            ["stop the song", "music"],
            ["set an alarm", "time"],
            ["what time", "time"],
        ],
        "val": [["play a song", "music"], ["set an alarm", "time"]],
        "oos": [["eggs and grapes"], ["why"]],
    }
    splits["oos"] = [[text, "oos"] for (text,) in splits["oos"]]
    (tmp_path / "all.json").write_text(json.dumps(splits), encoding="utf-8")
    text = recipe.read_text(encoding="utf-8")
    source = 'format = "json-splits"\nfile = "all.json"\nout_of_scope = { train = "oos", valid = "oos" }\n'
    begin, end = text.index("format ="), text.index("[tokenizer]")
    recipe.write_text(text[:begin] + source + text[end:], encoding="utf-8")
    task = task_for(recipe)
    folder = Trainer(task, tmp_path / "run", WORLD).run(resume=False)
    threshold = load_model(folder, TextEncoder).model.config.out_of_scope_threshold
    assert threshold is not None
    assert 0.0 < threshold < 1.0
    assert last(tmp_path / "run")["accuracy"] == 1.0


def test_a_text_out_of_scope_belongs_to_all_labels_alike() -> None:
    config = small_encoder_config(labels=["a", "b", "c", "d"])
    texts = [LabelledText("one", None, ("c",)), LabelledText("two", None, ())]
    assert label_probabilities(texts, config).tolist() == [[0, 0, 1, 0], [0.25] * 4]
    several = small_encoder_config(labels=["a", "b"], multi_label=True)
    assert label_probabilities([LabelledText("one", None, ("a", "b")), texts[1]], several).tolist() == [[1, 1], [0, 0]]


def test_losses_are_those_of_torch() -> None:
    model = small_encoder()
    batch = collate_texts([EncoderText([2, 7, 8, 3]), EncoderText([2, 9, 3])], model.config)
    states = model(batch.ids, batch.lengths, None)
    wanted = torch.tensor([2, 0])
    labels = torch.nn.functional.one_hot(wanted, 3).float()
    labelled = EncoderBatch(batch.ids, batch.lengths, None, tokens=2, labels=labels)
    loss, log_likelihood = EncoderObjective(model, smoothing=0.1)(labelled)
    logits = model.label_logits(states[:, 0])
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits, wanted, label_smoothing=0.1, reduction="sum")
    )
    torch.testing.assert_close(-log_likelihood, torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    masked = hide(labelled, Masking(4, 5, 40, share=0.99), torch.Generator().manual_seed(1))
    assert masked.hidden is not None
    assert masked.hidden.tolist() == [7, 8, 9]
    assert masked.mask_positions is not None
    assert masked.mask_positions.tolist() == [1, 2, 5]
    hidden_logits = model.mask_logits(model(masked.ids, masked.lengths).flatten(0, 1)[masked.mask_positions])
    expected = torch.nn.functional.cross_entropy(hidden_logits, masked.hidden)
    plain, _ = EncoderObjective(model, smoothing=0.0)(masked)
    joint, _ = EncoderObjective(model, smoothing=0.0, mask_weight=0.5)(masked)
    torch.testing.assert_close(joint - plain, 0.5 * 2 * expected)


def test_next_sentences_are_learnt_beside_hidden_tokens() -> None:
    model = small_encoder()
    texts = [
        EncoderText([2, 7, 3, 8, 3], [0, 0, 0, 1, 1]),
        EncoderText([2, 9, 3], [0] * 3),
        EncoderText([2, 9, 3], [0] * 3),
    ]
    batch = hide(collate_texts(texts, model.config), Masking(4, 5, 40, share=0.99), torch.Generator().manual_seed(1))
    follows = torch.tensor([1, -1, -1])
    assert batch.hidden is not None
    count = len(batch.hidden)
    plain, _ = EncoderObjective(model, smoothing=0.0)(replace(batch, tokens=count))
    joint, _ = EncoderObjective(model, smoothing=0.0)(replace(batch, tokens=count, follows=follows))
    first = model(batch.ids, batch.lengths, batch.segments)[:1, 0]
    expected = torch.nn.functional.cross_entropy(model.next_sentence_logits(first), follows[:1])
    torch.testing.assert_close(joint - plain, count * expected)


def test_multi_label_losses_are_those_of_torch() -> None:
    model = small_encoder(multi_label=True)
    batch = collate_texts([EncoderText([2, 7, 8, 3])], model.config)
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    loss, log_likelihood = EncoderObjective(model, smoothing=0.0)(EncoderBatch(batch.ids, None, None, 1, labels))
    logits = model.label_logits(model(batch.ids)[:, 0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(log_likelihood, -expected)


def test_faults_of_data_and_recipes_are_told(tmp_path: Path) -> None:
    recipe = write_encoder_recipe(tmp_path, CLASSIFICATION)
    (tmp_path / "texts.tsv").write_text("a\tone\na,b\ttwo\tthree\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"several labels.*; some texts are pairs"):
        task_for(recipe)
    write_encoder_recipe(tmp_path, SENTENCES, extra="[masking]\nshare = 1.5\nweight = -1\n")
    with pytest.raises(RecipeError, match=r"(?s)masking\.share.*masking\.weight"):
        load_recipe(recipe)


def test_words_beyond_the_training_tags_are_no_loss(tmp_path: Path) -> None:
    recipe = write_encoder_recipe(tmp_path, TAGGING)
    text = recipe.read_text(encoding="utf-8").replace('valid = "words.tsv"', 'valid = "other.tsv"')
    recipe.write_text(text, encoding="utf-8")
    (tmp_path / "other.tsv").write_text("we\tPRON\nooh\tINTJ\n", encoding="utf-8")
    task = task_for(recipe)
    assert isinstance(task, TaggingTask)
    (batch,) = task.validation(0, 1)
    assert batch.tokens == 1
    assert task.model.eval() is task.model
    assert task.metrics()["accuracy"] <= 0.5
