"""Translation: sentence pairs, teacher forcing, and a label-smoothed loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor, nn

from dragoman_model.batching import Batch, Example, Indices, TokenBatches, collate
from dragoman_model.checkpoint import Provenance
from dragoman_model.config import Config, RecurrentConfig
from dragoman_model.corpus import load_corpus
from dragoman_model.loss import smoothed_cross_entropy
from dragoman_model.recurrent import RecurrentTranslator
from dragoman_model.task import Start, Task
from dragoman_model.transformer import Transformer
from dragoman_model.translation_recipe import TranslationRecipe


class TranslationObjective(nn.Module):
    """Model and loss in one forward pass, so that DistributedDataParallel sees every use of every weight."""

    def __init__(self, model: Transformer | RecurrentTranslator, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and summed log-likelihood of the batch's real targets, in nats."""
        states = self.model(batch.source, batch.source_lengths, batch.target_in).flatten(0, 1)
        wanted = batch.target_out.flatten()
        real = wanted != self.model.config.pad_id
        if batch.tokens < wanted.numel():
            states, wanted = states[real], wanted[real]
        return smoothed_cross_entropy(states, self.model.embedding.weight, wanted, smoothing=self.smoothing)


class TranslationTask(Task):
    """An encoder-decoder model that learns sentence pairs in the recipe's directions."""

    config: Config | RecurrentConfig
    model: Transformer | RecurrentTranslator

    def __init__(self, recipe: TranslationRecipe, start: Start) -> None:
        corpus = load_corpus(recipe, start.say, start.tokenizer)
        super().__init__(recipe, start, corpus.tokenizer)
        self._translation = recipe
        self._corpus = corpus
        training = recipe.training
        self._batches = TokenBatches(corpus.train, batch_tokens=training.batch_tokens, seed=training.seed)
        self._valid = TokenBatches(corpus.valid, batch_tokens=training.batch_tokens, seed=0)

    @property
    def examples(self) -> int:
        """Sentence pairs, counted once for each direction."""
        return len(self._corpus.train)

    def order(self, epoch: int) -> Sequence[Indices]:
        """Indices of each batch's examples."""
        return self._batches.order(epoch)

    def batch(self, indices: Indices) -> Batch:
        """Those examples, padded."""
        return self._collate([self._corpus.train[i] for i in indices])

    def validation(self, rank: int, size: int) -> Iterator[Batch]:
        """The validation pairs, by length."""
        for indices in self._valid.in_order()[rank::size]:
            yield self._collate([self._corpus.valid[i] for i in indices])

    def objective(self) -> nn.Module:
        """Teacher forcing with the recipe's label smoothing."""
        return TranslationObjective(self.model, self.recipe.training.label_smoothing)

    def provenance(self, updates: int) -> Provenance:
        """With the languages and directions."""
        recipe = self._translation
        return replace(
            super().provenance(updates),
            languages=list(recipe.languages),
            directions=list(recipe.data.directions),
        )

    def _collate(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, pad_id=self.config.pad_id, bos_id=self.config.bos_id)
