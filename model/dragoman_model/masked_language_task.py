"""Pre-training: hidden tokens, and whether one sentence follows another (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from dragoman_model.batching import Indices, TokenBatches
from dragoman_model.config import EncoderConfig
from dragoman_model.encoder_batching import EncoderBatch, EncoderText, collate_texts, hide, make_text
from dragoman_model.encoder_corpus import encoder_vocabulary
from dragoman_model.encoder_objective import EncoderObjective
from dragoman_model.encoder_recipes import MaskedLanguageRecipe
from dragoman_model.encoder_tokenizer import SPECIALS
from dragoman_model.masking import Masking
from dragoman_model.next_sentences import SentencePair, sentence_pairs
from dragoman_model.sentence_sources import Sentence, read_sentences
from dragoman_model.task import Start, Task
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.text_prediction import batches_of
from dragoman_model.tokenizer import encode_texts

_ALONE = -1


@dataclass(frozen=True)
class _Sentences:
    """A split: ids of each sentence as it stands and in lower case, and which document it is of."""

    ids: list[list[int]]
    folded: list[list[int]]
    documents: Indices
    alone: Indices
    """Sentences that neither follow another nor are followed."""


class MaskedLanguageTask(Task):
    """An encoder that learns what stands where a token was hidden."""

    config: EncoderConfig
    model: TextEncoder

    def __init__(self, recipe: MaskedLanguageRecipe, start: Start) -> None:
        data = recipe.data
        train = read_sentences(data.root, data.train)
        valid = read_sentences(data.root, data.valid)
        tokenizer = encoder_vocabulary(recipe, data, lambda: _both_cases(train, data.lowercase_share), start.tokenizer)
        super().__init__(recipe, start, tokenizer, mask_head=True, next_sentence=data.next_sentence, labels=[], tags=[])
        self._data = data
        self._masking = Masking(self.config.mask_id, len(SPECIALS), self.config.vocabulary, share=recipe.masking.share)
        self._train = self._encode(train, start)
        self._valid = self._encode(valid, start)
        self._texts: list[EncoderText] = []
        self._pairs: list[SentencePair | None] = []

    @property
    def examples(self) -> int:
        """Sentences."""
        return len(self._train.ids)

    def order(self, epoch: int) -> Sequence[Indices]:
        """Sentences and pairs of this epoch: their cases, second sentences and order are drawn anew."""
        self._texts, self._pairs = self._draw(self._train, epoch, self._data.lowercase_share)
        return self._batches(self._texts).order(epoch)

    def batch(self, indices: Indices) -> EncoderBatch:
        """Those of the epoch whose order was asked for last, with tokens hidden by torch's generator."""
        return self._collate(self._texts, self._pairs, indices, None)

    def validation(self, rank: int, size: int) -> Iterator[EncoderBatch]:
        """The validation sentences as they stand, with always the same tokens hidden."""
        texts, pairs = self._draw(self._valid, 0, 0.0)
        for number, indices in enumerate(self._batches(texts).in_order()):
            if number % size == rank:
                yield self._collate(texts, pairs, indices, torch.Generator().manual_seed(number))

    def objective(self) -> nn.Module:
        """Hidden tokens, and next sentences where the recipe has them."""
        return EncoderObjective(self.model, smoothing=self.recipe.training.label_smoothing)

    def _batches(self, texts: list[EncoderText]) -> TokenBatches:
        training = self.recipe.training
        return batches_of(texts, batch_tokens=training.batch_tokens, seed=training.seed)

    def _encode(self, sentences: list[Sentence], start: Start) -> _Sentences:
        most = self.recipe.training.max_tokens
        texts = [sentence.text for sentence in sentences]
        ids = list(encode_texts(self.tokenizer, texts))
        folded = list(encode_texts(self.tokenizer, [text.lower() for text in texts]))
        # Two sentences must fit into one text where there are pairs.
        room = (most - 3) // 2 if self._data.next_sentence else most - 2
        short = [i for i in range(len(ids)) if 0 < max(len(ids[i]), len(folded[i])) <= room]
        if len(short) < len(ids):
            start.say(f"{len(ids) - len(short)} of {len(ids)} sentences left out: longer than {room} tokens")
        documents = np.array([sentences[i].document for i in short], dtype=np.intp)
        same = documents[1:] == documents[:-1]
        joined = np.concatenate([[False], same]) | np.concatenate([same, [False]])
        alone = np.flatnonzero(~joined) if self._data.next_sentence else np.arange(len(short))
        return _Sentences([ids[i] for i in short], [folded[i] for i in short], documents, alone)

    def _draw(
        self, split: _Sentences, epoch: int, lowercase_share: float
    ) -> tuple[list[EncoderText], list[SentencePair | None]]:
        seed, most = self.recipe.training.seed, self.recipe.training.max_tokens
        lower = np.random.default_rng([seed, epoch, 1]).random(len(split.ids)) < lowercase_share
        ids = [split.folded[i] if lower[i] else split.ids[i] for i in range(len(split.ids))]
        texts = [make_text(self.config, ids[i], most=most) for i in split.alone]
        pairs: list[SentencePair | None] = [None] * len(texts)
        if self._data.next_sentence:
            drawn = sentence_pairs(split.documents, seed, epoch)
            texts += [make_text(self.config, ids[p.first], ids[p.second], most=most) for p in drawn]
            pairs += drawn
        return texts, pairs

    def _collate(
        self,
        texts: list[EncoderText],
        pairs: list[SentencePair | None],
        indices: Indices,
        generator: torch.Generator | None,
    ) -> EncoderBatch:
        batch = hide(collate_texts([texts[i] for i in indices], self.config), self._masking, generator)
        assert batch.hidden is not None
        follows = None
        if self._data.next_sentence:
            chosen = [pairs[i] for i in indices]
            follows = torch.tensor([_ALONE if pair is None else int(pair.follows) for pair in chosen])
        return replace(batch, follows=follows, tokens=max(1, len(batch.hidden)))


def _both_cases(sentences: list[Sentence], lowercase_share: float) -> list[str]:
    texts = [sentence.text for sentence in sentences]
    return texts + [text.lower() for text in texts] if lowercase_share else texts
