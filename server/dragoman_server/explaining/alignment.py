"""Which words of a translation stand for which of its source, read from the cross-attention.

What is read was chosen on hand-aligned sentences of our own (``python -m tests.bench.alignment``): the mean over all
layers and heads, of the step that produces a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dragoman_server.explaining.graph import Array
from dragoman_server.explaining.words import Span, word_of_tokens, words

LEAST_SHARE = 0.4
"""Of a target word's attention: a source word that gets it is linked, beside the one that gets most."""


@dataclass(frozen=True)
class Link:
    """A source word and a target word, in code points, and the share of the target word's attention."""

    source: Span
    target: Span
    weight: float


def producing(cross: Array) -> Array:
    """The attention (target, source) with which each token was produced, from cross (layers, heads, target, source).

    The mean over layers and heads. The decoder produces a token in the step that reads the one before; nothing
    produced the first one, which has that step's attention too.
    """
    tokens: Array = cross.mean(axis=(0, 1))
    return np.concatenate([tokens[:1], tokens[:-1]])


def word_attention(tokens: Array, source_words: Sequence[int | None], target_words: Sequence[int | None]) -> Array:
    """Attention of words to words from that of tokens to tokens (target, source).

    A word's attention is the mean over its tokens, and goes to a source word by the sum over that word's. What goes to
    no word (language tag, end-of-sentence) is left out, and each row sums to one again, or to zero where nothing is
    left.
    """
    by_words = _members(target_words, shared=True) @ tokens @ _members(source_words, shared=False).T
    total = by_words.sum(axis=-1, keepdims=True)
    shares: Array = np.divide(by_words, total, out=np.zeros_like(by_words), where=total > 0)
    return shares


def linked(shares: Array) -> list[tuple[int, int]]:
    """Pairs (target word, source word) that are linked, in the order of the target; ``shares`` is (target, source)."""
    return [
        (row, column)
        for row, of_word in enumerate(shares)
        for column, share in enumerate(of_word)
        if share > 0 and (share >= LEAST_SHARE or column == int(of_word.argmax()))
    ]


def align(tokens: Array, source: tuple[str, Sequence[Span]], target: tuple[str, Sequence[Span]]) -> list[Link]:
    """The links, in the order of the target.

    ``source`` and ``target`` are the texts, with the places of every key and query of ``tokens`` (target, source); an
    empty span is a special token's.
    """
    (source_text, source_offsets), (target_text, target_offsets) = source, target
    of_source, of_target = words(source_text), words(target_text)
    shares = word_attention(
        tokens, word_of_tokens(source_offsets, of_source), word_of_tokens(target_offsets, of_target)
    )
    return [Link(of_source[column], of_target[row], float(shares[row, column])) for row, column in linked(shares)]


def _members(words_of_tokens: Sequence[int | None], *, shared: bool) -> Array:
    """(words, tokens): 1 where the token belongs to the word; ``shared``: 1 divided by the word's tokens."""
    count = max((word for word in words_of_tokens if word is not None), default=-1) + 1
    members = np.zeros((count, len(words_of_tokens)), np.float32)
    for token, word in enumerate(words_of_tokens):
        if word is not None:
            members[word, token] = 1.0
    return members / np.maximum(members.sum(axis=1, keepdims=True), 1.0) if shared else members
