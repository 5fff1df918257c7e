"""From a translation recipe's files to tokenizer and examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from dragoman_model.batching import Example
from dragoman_model.data import Pair, read_pairs
from dragoman_model.tokenizer import EOS, encode_texts, language_tag, token_id, train_tokenizer
from dragoman_model.translation_recipe import PairsSection, TranslationRecipe

Say = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """What a run trains and validates on."""

    tokenizer: Tokenizer
    train: list[Example]
    valid: list[Example]


def load_corpus(recipe: TranslationRecipe, say: Say, tokenizer: Tokenizer | None = None) -> Corpus:
    """Read both splits, learn the vocabulary from the training split (unless one is given), and tokenise."""
    train = _read(recipe.data, recipe.data.train, say)
    valid = _read(recipe.data, recipe.data.valid, say)
    if tokenizer is None:
        texts = (text for pair in train for text in (pair.first, pair.second))
        tokenizer = train_tokenizer(texts, recipe.tokenizer.vocabulary, [x.code for x in recipe.languages])
    limit = recipe.training.max_tokens
    return Corpus(
        tokenizer,
        make_examples(train, recipe.data, tokenizer, limit, say),
        make_examples(valid, recipe.data, tokenizer, limit, say),
    )


def _read(data: PairsSection, paths: Sequence[Path], say: Say) -> list[Pair]:
    pairs, report = read_pairs(*(data.root / path for path in paths))
    say(str(report))
    return pairs


def make_examples(
    pairs: Sequence[Pair], data: PairsSection, tokenizer: Tokenizer, max_tokens: int, say: Say
) -> list[Example]:
    """An example for every pair and direction; those with a side above ``max_tokens`` are left out and counted."""
    eos = token_id(tokenizer, EOS)
    ids = {
        data.columns[0]: list(encode_texts(tokenizer, [p.first for p in pairs])),
        data.columns[1]: list(encode_texts(tokenizer, [p.second for p in pairs])),
    }
    examples, long = [], 0
    for source, target in data.directions:
        tag = token_id(tokenizer, language_tag(target))
        for source_ids, target_ids in zip(ids[source], ids[target], strict=True):
            if max(len(source_ids) + 2, len(target_ids) + 1) > max_tokens:
                long += 1
            else:
                examples.append(Example([tag, *source_ids, eos], [*target_ids, eos]))
    if long:
        say(f"{long} of {long + len(examples)} examples left out: a side longer than {max_tokens} tokens")
    return examples
