"""Logit filters: penalties change a row's logits, restrictions name the tokens that must not come next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import DecodingOptions

Floats = npt.NDArray[np.floating[Any]]


def penalise(logits: Floats, history: Sequence[int], options: DecodingOptions) -> None:
    """Change the logits (vocabulary,) of the tokens that were produced before, in place.

    Repetition: positive logits are divided, negative ones multiplied (Keskar et al. 2019, arXiv:1909.05858, with the
    sign taken care of). Presence is taken off once, frequency once for each time.
    """
    if not history:
        return
    counts = Counter(history)
    ids = np.fromiter(counts.keys(), np.int64, len(counts))
    values = logits[ids]
    if options.repetition_penalty != 1:
        penalty = options.repetition_penalty
        values = np.where(values > 0, values / penalty, values * penalty)
    times = np.fromiter(counts.values(), np.float64, len(counts))
    logits[ids] = values - options.presence_penalty - options.frequency_penalty * times


def restrict(scores: Floats, history: Sequence[int], options: DecodingOptions, eos: int) -> None:
    """Set the scores (vocabulary,) of all tokens that must not come next to minus infinity, in place.

    Where nothing may come, end-of-sentence comes after all, even before ``min_length``.
    """
    ending = scores[eos]
    if options.allowed is not None:
        kept = scores[list(options.allowed)]
        scores.fill(-np.inf)
        scores[list(options.allowed)] = kept
        scores[eos] = ending
    scores[list(_forbidden(history, options))] = -np.inf
    if len(history) < options.min_length:
        scores[eos] = -np.inf
    if scores.max() == -np.inf:
        scores[eos] = ending


def _forbidden(history: Sequence[int], options: DecodingOptions) -> Iterator[int]:
    if options.no_repeat_ngram_size:
        yield from repeating(history, options.no_repeat_ngram_size)
    yield from completing(history, options.banned)


def repeating(history: Sequence[int], size: int) -> Iterator[int]:
    """Tokens that would make the last ``size`` tokens ones that came before in this order."""
    if len(history) < size:
        return
    tail = list(history[len(history) - size + 1 :])
    for start in range(len(history) - size + 1):
        if history[start : start + size - 1] == tail:
            yield history[start + size - 1]


def completing(history: Sequence[int], sequences: Iterable[Sequence[int]]) -> Iterator[int]:
    """Last tokens of the sequences of which all the others came just now."""
    for *head, last in sequences:
        if len(head) <= len(history) and list(history[len(history) - len(head) :]) == head:
            yield last
