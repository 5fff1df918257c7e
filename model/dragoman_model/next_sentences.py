"""Next-sentence prediction: pairs of which half follow one another in the text (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dragoman_model.batching import Indices

Sentence = Sequence[int]


@dataclass(frozen=True)
class SentencePair:
    """Two sentences by their numbers, and whether the second follows the first."""

    first: int
    second: int
    follows: bool


def sentence_pairs(documents: Indices, seed: int, epoch: int) -> list[SentencePair]:
    """A pair for every sentence that another one follows; half of them get a random second sentence instead.

    ``documents`` (sentences,) says which document each sentence is of; those of one stand together, in order. The pairs
    are a function of the seed and the epoch alone. A random sentence is never the one that follows.
    """
    rng = np.random.default_rng([seed, epoch, 2])
    pairs = []
    for first in np.flatnonzero(documents[1:] == documents[:-1]).tolist():
        follows = bool(rng.random() < 0.5) or len(documents) < 3
        second = first + 1
        if not follows:
            # One of all the others: skipping two numbers keeps the draw uniform.
            second = int(rng.integers(len(documents) - 2))
            second += 2 * (second >= first)
        pairs.append(SentencePair(first, second, follows))
    return pairs
