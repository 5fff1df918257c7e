"""Texts that an encoder is measured on: read as the recipe's are, decided, and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dragoman_export.encoder_measured import REFUSED, MeasuredLabels, MeasuredMasks, MeasuredTags
from dragoman_export.encoder_measuring import EncoderBench, encoder_misses
from dragoman_export.encoder_texts import TextReader, TextSource, text_source
from dragoman_model.checkpoint import Provenance
from dragoman_model.data import DataError
from dragoman_model.encoder_tokenizer import train_encoder_tokenizer
from dragoman_protos.v1.bundle_pb2 import (
    Bundle,
    Classifier,
    Dimensions,
    Limits,
    Measurement,
    Metric,
    SpecialIds,
    Tagger,
)
from dragoman_server.pass_runtime import EncoderOutput
from tests.unit.export import tiny_text_encoder as tiny

TOKENIZER = train_encoder_tokenizer([text for text, _ in tiny.LABELLED], 300)


def manifest(longest: int = 40) -> Bundle:
    return Bundle(
        tasks=[Bundle.TASK_CLASSIFY, Bundle.TASK_TAG, Bundle.TASK_FILL_MASK],
        dimensions=Dimensions(vocabulary=TOKENIZER.get_vocab_size(), d_model=8, num_heads=2),
        special_ids=SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4),
        limits=Limits(source_tokens=longest),
        classifier=Classifier(labels=tiny.LABELS, out_of_scope_threshold=0.5),
        tagger=Tagger(tags=tiny.TAGS),
    )


def provenance(recipe: str) -> Provenance:
    return Provenance("tiny", "", [], [], recipe, 0, "", "", "")


def reader(recipe: str, longest: int = 40) -> TextReader:
    return TextReader(text_source(provenance(recipe)), TOKENIZER, manifest(longest))


def output(labels: list[float], tokens: int = 3) -> EncoderOutput:
    return EncoderOutput(np.zeros((tokens, 8), np.float32), np.array(labels, np.float32))


def test_labelled_texts_are_read_with_those_out_of_scope(tmp_path: Path) -> None:
    path = tiny.write_labelled(tmp_path / "intents.json")
    found = reader(tiny.CLASSIFICATION).read([path], "test")
    assert isinstance(found.texts, MeasuredLabels)
    assert len(found.texts.inputs) == len(tiny.LABELLED) + len(tiny.OUTSIDE)
    assert all(text.ids[0] == 2 and text.ids[-1] == 3 for text in found.texts.inputs)
    assert found.shortened == 0
    assert len(reader(tiny.CLASSIFICATION).read([path], "train").texts.inputs) == len(tiny.LABELLED)


def test_a_text_that_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    found = reader(tiny.CLASSIFICATION, longest=6).read([tiny.write_labelled(tmp_path / "intents.json")], "test")
    assert max(len(text.ids) for text in found.texts.inputs) == 6
    assert found.shortened > 0


def test_a_refused_text_is_a_decision_of_its_own(tmp_path: Path) -> None:
    texts = reader(tiny.CLASSIFICATION).read([tiny.write_labelled(tmp_path / "intents.json")], "test").texts
    assert texts.decision(0, output([0.0, 4.0, 0.0])) == (1,)
    assert texts.decision(0, output([0.0, 0.1, 0.0])) == (REFUSED,)
    assert texts.gap(0, output([0.0, 4.0, 1.5])) == pytest.approx(2.5)


def test_tags_are_asked_at_each_words_first_token(tmp_path: Path) -> None:
    texts = reader(tiny.TAGGING).read([tiny.write_tagged(tmp_path / "tagged.tsv")], "test").texts
    assert isinstance(texts, MeasuredTags)
    right = []
    for sentence, tagged, text in zip(texts.sentences, texts.tagged, texts.inputs, strict=True):
        logits = np.zeros((len(text.ids), len(tiny.TAGS)), np.float32)
        for place, tag in zip(tagged.positions, sentence.tags, strict=True):
            logits[place, tiny.TAGS.index(tag)] = 1.0
        right.append(EncoderOutput(np.zeros((len(text.ids), 8), np.float32), tag_logits=logits))
    assert texts.scores(right) == {"accuracy": 1.0, "macro F1": 1.0}
    assert texts.decision(0, right[0]) == tuple(tiny.TAGS.index(tag) for tag in texts.sentences[0].tags)


def test_one_token_of_each_text_is_hidden_and_never_a_special_one() -> None:
    asked = reader(tiny.CLASSIFICATION)
    inputs = asked.encode([text for text, _ in tiny.LABELLED])
    masks = asked.hide(inputs)
    for before, after, hidden in zip(inputs, masks.inputs, masks.hidden, strict=True):
        (place,) = after.mask_positions
        assert 0 < place < len(before.ids) - 1
        assert (before.ids[place], after.ids[place]) == (hidden, 4)
        assert [*after.ids[:place], *after.ids[place + 1 :]] == [*before.ids[:place], *before.ids[place + 1 :]]
    assert len({text.mask_positions for text in masks.inputs}) > 2


def test_sentences_without_labels_are_measured_by_what_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(tiny.OUTSIDE), encoding="utf-8")
    texts = reader(tiny.SENTENCES).read([path], "test").texts
    assert isinstance(texts, MeasuredMasks)
    assert len(texts.inputs) == len(tiny.OUTSIDE)
    logits = np.eye(300, dtype=np.float32)[texts.hidden]
    outputs = [EncoderOutput(np.zeros((3, 8), np.float32), mask_logits=row[None]) for row in logits]
    assert texts.scores(outputs) == {"masked token accuracy": 1.0}


@pytest.mark.parametrize("recipe", ["", "not TOML", 'task = "translation"\n', 'task = "classification"\n'])
def test_a_recipe_that_does_not_say_how_texts_are_read_is_an_error(recipe: str) -> None:
    with pytest.raises(DataError, match="does not say how its data are read"):
        text_source(provenance(recipe))


def test_files_that_are_not_those_of_the_recipe_are_errors(tmp_path: Path) -> None:
    path = tiny.write_labelled(tmp_path / "intents.json")
    asked = reader(tiny.CLASSIFICATION)
    with pytest.raises(DataError, match="no file was named"):
        asked.read([], "test")
    with pytest.raises(DataError, match=r"\d files, and \d are needed"):
        asked.read([path, path], "test")
    few = TextReader(TextSource(task="tagging"), TOKENIZER, manifest())
    with pytest.raises(DataError):
        few.read([path], "test")


def test_what_a_precision_loses_is_told_with_every_figure() -> None:
    good = Measurement(precision="fp32", identical_greedy=1.0, max_logit_difference=1e-5)
    assert list(encoder_misses([good])) == []
    bad = Measurement(
        precision="fp32",
        identical_greedy=0.99,
        max_logit_difference=float("nan"),
        metrics=[
            Metric(name="accuracy", pytorch=0.95, value=0.9),
            Metric(name="macro F1", pytorch=0.9, value=0.895),
            Metric(name="other", pytorch=0.9, value=float("nan")),
        ],
    )
    first, second, third, fourth = encoder_misses([bad])
    assert first.startswith("fp32: largest difference of an output from PyTorch nan")
    assert "99.00%" in second
    assert third.startswith("fp32: accuracy 0.9000, PyTorch's is 0.9500")
    assert fourth.startswith("fp32: other nan")


def test_texts_that_are_decided_otherwise_are_named_with_their_gap(tmp_path: Path) -> None:
    texts = reader(tiny.CLASSIFICATION).read([tiny.write_labelled(tmp_path / "intents.json")], "test").texts
    expected = [output([3.0, 0.0, 0.0]) for _ in texts.inputs]
    bench = EncoderBench([texts])
    bench.expect([expected])
    found = [*expected[:4], output([0.0, 3.0, 0.0]), *expected[5:]]
    measured = bench.measurement("int8", "CPU", [found], {})
    assert [(tie.line, tie.logit_gap) for tie in measured.ties] == [(5, 3.0)]
    assert measured.identical_greedy == pytest.approx(1 - 1 / len(expected))
    assert measured.max_logit_difference == 3.0
    assert {metric.name for metric in measured.metrics} >= {"accuracy", "out-of-scope recall"}
