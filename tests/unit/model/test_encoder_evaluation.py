"""Evaluation of a checkpoint: its predictions on files that take the place of the recipe's, and the figures of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_model.checkpoint import Provenance, TrainedModel
from dragoman_model.classification_metrics import OUT_OF_SCOPE
from dragoman_model.data import DataError
from dragoman_model.encoder_batching import EncoderText
from dragoman_model.encoder_corpus import TaggedText, encode_tagged
from dragoman_model.encoder_evaluation import evaluate_encoder, read_labelled_files
from dragoman_model.encoder_tokenizer import train_encoder_tokenizer
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.tagged_sentences import TaggedSentence
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.text_evaluation import label_scores, likeliest, tag_scores, wanted_labels
from dragoman_model.text_prediction import label_logits, tag_logits
from tests.unit.model.small_encoder import (
    CLASSIFICATION,
    LABELLED,
    TAGGED,
    TAGGING,
    small_encoder,
    small_encoder_config,
    write_labelled,
    write_tagged,
)


def trained(model: TextEncoder, recipe: str) -> TrainedModel[TextEncoder]:
    tokenizer = train_encoder_tokenizer([text for _, text in LABELLED], 300)
    return TrainedModel(model, tokenizer, Provenance("tiny", "", [], [], recipe, 0, "", "", ""), "")


def test_labels_of_a_file(tmp_path: Path) -> None:
    model = small_encoder(vocabulary=300, labels=["music", "time", "weather"], tags=[])
    found = evaluate_encoder(trained(model, CLASSIFICATION), [write_labelled(tmp_path / "other.tsv")], "test")
    assert (found.texts, found.targets) == (12, 12)
    # Each of the three labels has a third of the texts.
    assert found.scores["accuracy"] in {number / 12 for number in range(13)}
    with pytest.raises(DataError, match=r"2 files, and 1 are needed"):
        evaluate_encoder(trained(model, CLASSIFICATION), [tmp_path / "a", tmp_path / "b"], "test")
    with pytest.raises(DataError, match=r"knows no labels \['weather'\]"):
        evaluate_encoder(
            trained(small_encoder(vocabulary=300, labels=["music", "time"]), CLASSIFICATION),
            [tmp_path / "other.tsv"],
            "test",
        )


def test_tags_of_a_file(tmp_path: Path) -> None:
    model = small_encoder(vocabulary=300, labels=[], tags=["NOUN", "VERB"])
    found = evaluate_encoder(trained(model, TAGGING), [write_tagged(tmp_path / "other.tsv")], "test")
    words = [word for sentence in TAGGED for word in sentence]
    assert (found.texts, found.targets) == (len(TAGGED), len(words))
    known = sum(word.endswith(("NOUN", "VERB")) for word in words)
    assert found.scores["accuracy"] <= known / len(words)
    with pytest.raises(DataError, match="pre-trained only"):
        evaluate_encoder(trained(small_encoder(vocabulary=300, labels=[], tags=[]), TAGGING), [], "test")


def test_files_by_label_come_in_the_order_of_the_labels(tmp_path: Path) -> None:
    recipe = '[data.source]\nformat = "label-files"\nfiles = { good = "g.txt", bad = "b.txt" }\n'
    for name in ("one", "two"):
        (tmp_path / name).write_text("\n".join(f"{name} {i}" for i in range(40)), encoding="utf-8")
    texts = read_labelled_files(recipe, [tmp_path / "one", tmp_path / "two"], "test")
    assert {(text.text.split()[0], text.labels) for text in texts} == {("one", ("good",)), ("two", ("bad",))}
    with pytest.raises(DataError, match=r"in the order g\.txt, b\.txt"):
        read_labelled_files(recipe, [tmp_path / "one"], "test")
    with pytest.raises(DataError, match="does not say"):
        read_labelled_files("[data]\n", [tmp_path / "one"], "test")


def test_refused_texts_are_counted() -> None:
    config = small_encoder_config(out_of_scope_threshold=0.6)
    texts = [LabelledText("", None, labels) for labels in (("a",), ("b",), (), ())]
    logits = torch.tensor([[9.0, 0, 0], [0.1, 0.3, 0.0], [0, 0, 0], [0, 0, 9.0]])
    assert wanted_labels(texts, config).tolist() == [0, 1, OUT_OF_SCOPE, OUT_OF_SCOPE]
    assert likeliest(logits)[0].tolist() == [0, 1, 0, 2]
    scores = label_scores(logits, texts, config)
    assert scores == pytest.approx({
        "accuracy": 1.0,
        "macro F1": 1.0,
        "out-of-scope recall": 0.5,
        "out-of-scope precision": 0.5,
        "accuracy with refusals": 0.5,
    })  # fmt: skip


def test_several_labels_must_all_be_right() -> None:
    config = small_encoder_config(labels=["a", "b"], multi_label=True)
    texts = [LabelledText("", None, labels) for labels in (("a", "b"), ("a",), ())]
    scores = label_scores(torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]), texts, config)
    # Label a: TP 2. Label b: TP 1, FP 1.
    assert scores == pytest.approx({"accuracy": 2 / 3, "macro F1": (1 + 2 / 3) / 2})


def test_words_without_room_or_of_unknown_tags_are_wrong() -> None:
    config = small_encoder_config(tags=["x", "y"])
    sentence = TaggedSentence(("one", "two", "three", "four"), ("x", "y", "z", "x"))
    text = TaggedText(EncoderText([2, 7, 8, 9, 3]), positions=[1, 2, 3], words=[0, 1, 2])
    logits = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 0.0], [0.0, 0.0]])
    scores = tag_scores([logits], [text], [sentence], config)
    # x: TP 1, FN 1 (the cut word): 2/3. y: 1. The unknown z is of no class.
    assert scores == pytest.approx({"accuracy": 0.5, "macro F1": (2 / 3 + 1) / 2})


def test_predictions_come_in_the_order_of_the_texts() -> None:
    model = small_encoder()
    texts = [EncoderText([2, *range(5, 5 + n), 3]) for n in (6, 1, 9, 3, 3)]
    labels = label_logits(model, texts, batch_tokens=12)
    tags = tag_logits(model, texts, batch_tokens=12)
    for number, text in enumerate(texts):
        states = model(torch.tensor([text.ids]))
        torch.testing.assert_close(labels[number], model.label_logits(states[:, 0])[0])
        torch.testing.assert_close(tags[number], model.tag_logits(states)[0])


def test_words_are_found_at_their_first_pieces() -> None:
    tokenizer = train_encoder_tokenizer([text for _, text in LABELLED], 300)
    config = small_encoder_config(vocabulary=300)
    sentence = TaggedSentence(("what", "n't", "", "time", "zzzz"), ("x", "y", "x", "y", "x"))
    (tagged,) = encode_tagged([sentence], tokenizer, config, 32)
    assert tagged.words == [0, 1, 3, 4]
    pieces = [tokenizer.id_to_token(tagged.text.ids[at]) for at in tagged.positions]
    assert all(piece is not None and piece.startswith("Ġ") for piece in pieces)
    (cut,) = encode_tagged([sentence], tokenizer, config, tagged.positions[-1] + 1)
    assert cut.words == [0, 1, 3]
    assert cut.text.ids[-1] == config.sep_id
    assert all(at < len(cut.text.ids) - 1 for at in cut.positions)
