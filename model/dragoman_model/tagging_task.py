"""Tagging: a tag for every word, predicted at the first of its pieces (Devlin et al. 2019, section 5.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from dragoman_model.batching import Indices, TokenBatches
from dragoman_model.config import EncoderConfig
from dragoman_model.encoder_batching import EncoderBatch, collate_texts, hide
from dragoman_model.encoder_corpus import TaggedText, encode_tagged, encoder_vocabulary
from dragoman_model.encoder_objective import EncoderObjective
from dragoman_model.encoder_recipes import TaggingRecipe
from dragoman_model.encoder_tokenizer import SPECIALS
from dragoman_model.masking import Masking
from dragoman_model.tagged_sentences import TaggedSentence, read_tagged
from dragoman_model.task import Start, Task
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.text_evaluation import tag_scores
from dragoman_model.text_prediction import batches_of, tag_logits

_UNKNOWN = -1


class TaggingTask(Task):
    """An encoder that learns the tags of words, and hidden tokens beside them if the recipe says so."""

    best_by = ("loss", "accuracy", "macro F1")
    config: EncoderConfig
    model: TextEncoder

    def __init__(self, recipe: TaggingRecipe, start: Start) -> None:
        data = recipe.data
        train = read_tagged(data.root / data.train)
        self._valid = read_tagged(data.root / data.valid)
        tags = sorted({tag for sentence in train for tag in sentence.tags})
        tokenizer = encoder_vocabulary(recipe, data, lambda: [" ".join(s.words) for s in train], start.tokenizer)
        super().__init__(
            recipe,
            start,
            tokenizer,
            tags=tags,
            bio=data.bio,
            labels=[],
            next_sentence=False,
            mask_head=recipe.masking.weight > 0,
        )
        self._recipe = recipe
        training = recipe.training
        whole = encode_tagged(train, tokenizer, self.config, self.config.max_length)
        kept = [i for i, text in enumerate(whole) if len(text.text.ids) <= training.max_tokens]
        if len(kept) < len(whole):
            start.say(
                f"{len(whole) - len(kept)} of {len(whole)} sentences left out: above {training.max_tokens} tokens"
            )
        self._train_texts = [whole[i] for i in kept]
        self._train_tags = self._numbers(self._train_texts, [train[i] for i in kept])
        self._valid_texts = encode_tagged(self._valid, tokenizer, self.config, self.config.max_length)
        # A tag that no training sentence has cannot be learnt; it counts against the metrics, and not in the loss.
        self._valid_tags = self._numbers(self._valid_texts, self._valid)
        self._batches = self._by_length(self._train_texts)
        self._masking = Masking(self.config.mask_id, len(SPECIALS), self.config.vocabulary, share=recipe.masking.share)

    @property
    def examples(self) -> int:
        """Sentences."""
        return len(self._train_texts)

    def order(self, epoch: int) -> Sequence[Indices]:
        """Indices of each batch's sentences."""
        return self._batches.order(epoch)

    def batch(self, indices: Indices) -> EncoderBatch:
        """Those sentences, with tokens hidden if the recipe says so."""
        batch = self._collate(self._train_texts, self._train_tags, indices)
        return hide(batch, self._masking) if self._masking.share else batch

    def validation(self, rank: int, size: int) -> Iterator[EncoderBatch]:
        """The validation sentences, with nothing hidden."""
        for indices in self._by_length(self._valid_texts).in_order()[rank::size]:
            yield self._collate(self._valid_texts, self._valid_tags, indices)

    def objective(self) -> nn.Module:
        """Tags, and hidden tokens with the recipe's weight."""
        return EncoderObjective(
            self.model,
            smoothing=self.recipe.training.label_smoothing,
            mask_weight=self._recipe.masking.weight,
        )

    def metrics(self) -> dict[str, float]:
        """Accuracy over the validation words, and macro F1 over tags."""
        logits = tag_logits(self.model, [text.text for text in self._valid_texts])
        return tag_scores(logits, self._valid_texts, self._valid, self.config)

    def _by_length(self, texts: list[TaggedText]) -> TokenBatches:
        training = self.recipe.training
        return batches_of([t.text for t in texts], batch_tokens=training.batch_tokens, seed=training.seed)

    def _numbers(self, texts: list[TaggedText], sentences: list[TaggedSentence]) -> list[list[int]]:
        number = {tag: i for i, tag in enumerate(self.config.tags)}
        return [[number.get(s.tags[word], _UNKNOWN) for word in t.words] for t, s in zip(texts, sentences, strict=True)]

    def _collate(self, texts: list[TaggedText], tags: list[list[int]], indices: Indices) -> EncoderBatch:
        batch = collate_texts([texts[i].text for i in indices], self.config)
        width = batch.ids.shape[1]
        positions, numbers = [], []
        for row, index in enumerate(indices):
            for at, tag in zip(texts[index].positions, tags[index], strict=True):
                if tag != _UNKNOWN:
                    positions.append(row * width + at)
                    numbers.append(tag)
        return replace(
            batch, tag_positions=torch.tensor(positions), tags=torch.tensor(numbers), tokens=max(1, len(numbers))
        )
