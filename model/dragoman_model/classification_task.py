"""Classification: one label or several for a text or a pair of texts, from the [CLS] state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dragoman_model.batching import Indices
from dragoman_model.checkpoint import save_model
from dragoman_model.classification_metrics import choose_threshold
from dragoman_model.config import EncoderConfig
from dragoman_model.data import DataError
from dragoman_model.encoder_batching import EncoderBatch, EncoderText, collate_texts, hide
from dragoman_model.encoder_corpus import encode_labelled, encoder_vocabulary
from dragoman_model.encoder_objective import EncoderObjective
from dragoman_model.encoder_recipes import ClassificationRecipe
from dragoman_model.encoder_tokenizer import SPECIALS
from dragoman_model.families import build_model
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.masking import Masking
from dragoman_model.task import Start, Task
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.text_evaluation import label_scores, likeliest, wanted_labels
from dragoman_model.text_prediction import batches_of, label_logits


class ClassificationTask(Task):
    """An encoder that learns the labels of texts, and hidden tokens beside them if the recipe says so."""

    best_by = ("loss", "accuracy", "macro F1")
    config: EncoderConfig
    model: TextEncoder

    def __init__(self, recipe: ClassificationRecipe, start: Start) -> None:
        data = recipe.data
        train = list(data.source.read(data.root, "train"))
        valid = list(data.source.read(data.root, "valid"))
        labels = sorted({label for text in train for label in text.labels})
        _check(train, valid, labels, multi_label=data.multi_label)
        tokenizer = encoder_vocabulary(recipe, data, lambda: [text.text for text in train], start.tokenizer)
        super().__init__(
            recipe,
            start,
            tokenizer,
            labels=labels,
            multi_label=data.multi_label,
            pairs=any(text.text_pair is not None for text in train),
            tags=[],
            next_sentence=False,
            mask_head=recipe.masking.weight > 0,
            out_of_scope_threshold=None,
        )
        self._recipe = recipe
        self._train, self._valid = train, valid
        self._train_texts = self._encode(train)
        self._valid_texts = self._encode(valid)
        training = recipe.training
        self._batches = batches_of(self._train_texts, batch_tokens=training.batch_tokens, seed=training.seed)
        self._masking = Masking(self.config.mask_id, len(SPECIALS), self.config.vocabulary, share=recipe.masking.share)
        self._targets = label_probabilities(train, self.config)
        self._valid_targets = label_probabilities(valid, self.config)

    @property
    def examples(self) -> int:
        """Texts."""
        return len(self._train)

    def order(self, epoch: int) -> Sequence[Indices]:
        """Indices of each batch's texts."""
        return self._batches.order(epoch)

    def batch(self, indices: Indices) -> EncoderBatch:
        """Those texts, with tokens hidden if the recipe says so."""
        batch = self._collate(self._train_texts, self._targets, indices)
        return hide(batch, self._masking) if self._masking.share else batch

    def validation(self, rank: int, size: int) -> Iterator[EncoderBatch]:
        """The validation texts that have a label, with nothing hidden."""
        inside = [i for i, text in enumerate(self._valid) if text.labels or self.config.multi_label]
        texts = [self._valid_texts[i] for i in inside]
        targets = self._valid_targets[inside]
        batches = batches_of(texts, batch_tokens=self.recipe.training.batch_tokens, seed=0).in_order()
        for indices in batches[rank::size]:
            yield self._collate(texts, targets, indices)

    def objective(self) -> nn.Module:
        """Labels, and hidden tokens with the recipe's weight."""
        return EncoderObjective(
            self.model,
            smoothing=self.recipe.training.label_smoothing,
            mask_weight=self._recipe.masking.weight,
        )

    def metrics(self) -> dict[str, float]:
        """Accuracy and macro F1 of the validation texts that are in scope, none refused."""
        scores = label_scores(label_logits(self.model, self._valid_texts), self._valid, self.config)
        return {"accuracy": scores["accuracy"], "macro F1": scores["macro F1"]}

    def save(self, folder: Path, state: dict[str, Tensor], updates: int) -> None:
        """With the threshold that these weights need, if the validation data have texts out of scope."""
        config = self.config
        if not config.multi_label and any(not text.labels for text in self._valid):
            model = build_model(config)
            assert isinstance(model, TextEncoder)
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
            predicted, probability = likeliest(label_logits(model.eval(), self._valid_texts))
            threshold = choose_threshold(probability, predicted, wanted_labels(self._valid, config))
            config = config.model_copy(update={"out_of_scope_threshold": threshold})
        save_model(folder, state, config, self.tokenizer, self.provenance(updates))

    def _encode(self, texts: list[LabelledText]) -> list[EncoderText]:
        return encode_labelled(texts, self.tokenizer, self.config, self.recipe.training.max_tokens)

    def _collate(self, texts: list[EncoderText], targets: Tensor, indices: Indices) -> EncoderBatch:
        batch = collate_texts([texts[i] for i in indices], self.config)
        return replace(batch, labels=targets[torch.from_numpy(indices)], tokens=len(indices))


def label_probabilities(texts: Sequence[LabelledText], config: EncoderConfig) -> Tensor:
    """(texts, labels): 1 for each label of a text; a text out of scope belongs to all alike.

    What it teaches is to be unsure (Hendrycks et al. 2019, arXiv:1812.04606). With several labels, none is none.
    """
    out = torch.zeros(len(texts), len(config.labels))
    number = {label: i for i, label in enumerate(config.labels)}
    for row, text in enumerate(texts):
        for label in text.labels:
            out[row, number[label]] = 1.0
        if not text.labels and not config.multi_label:
            out[row] = 1.0 / len(config.labels)
    return out


def _check(train: list[LabelledText], valid: list[LabelledText], labels: list[str], *, multi_label: bool) -> None:
    faults = []
    if len(labels) < 2:
        faults.append(f"two labels are needed, and the training texts have {len(labels)}")
    unknown = sorted({label for text in valid for label in text.labels} - set(labels))
    if unknown:
        faults.append(f"labels {unknown} are in the validation texts, but in no training text")
    if not multi_label and any(len(text.labels) > 1 for text in (*train, *valid)):
        faults.append("a text has several labels, and multi_label is not set")
    if not any(text.labels for text in valid):
        faults.append("no validation text has a label")
    if len({text.text_pair is None for text in (*train, *valid)}) > 1:
        faults.append("some texts are pairs and some are not")
    if faults:
        raise DataError("; ".join(faults))
