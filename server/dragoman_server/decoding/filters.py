"""Logit filters over many rows: penalties change logits, restrictions say which tokens must not come next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import DecodingOptions

Floats = npt.NDArray[np.floating[Any]]
History = npt.NDArray[np.integer[Any]]
"""(rows, steps): the tokens of each row so far; ``lengths`` (rows,) says how many they are, the rest is anything."""


def penalise(logits: Floats, history: History, lengths: History, options: Sequence[DecodingOptions]) -> None:
    """Change the logits (rows, vocabulary) of the tokens that each row has produced before, in place.

    Repetition: positive logits are divided, negative ones multiplied (Keskar et al. 2019, arXiv:1909.05858, with the
    sign taken care of). Presence is taken off once, frequency once for each time.
    """
    longest = int(lengths.max(initial=0))
    if not longest:
        return
    rows, at = np.nonzero(np.arange(longest) < lengths[:, None])
    ids = history[rows, at]
    repetition = np.array([o.repetition_penalty for o in options])[rows]
    off = np.array([o.presence_penalty for o in options])[rows]
    frequency = np.array([o.frequency_penalty for o in options])
    if frequency.any():
        _, where, times = np.unique(rows * logits.shape[1] + ids, return_inverse=True, return_counts=True)
        off += frequency[rows] * times[where]
    values = logits[rows, ids]
    # A token that came several times is written several times, with the same value.
    logits[rows, ids] = np.where(values > 0, values / repetition, values * repetition) - off


def restrict(scores: Floats, history: History, lengths: History, options: Sequence[DecodingOptions], eos: int) -> None:
    """Set the scores (rows, vocabulary) of all tokens that must not come next to minus infinity, in place.

    Where nothing may come, end-of-sentence comes after all, even before ``min_length``.
    """
    ending = scores[:, eos].copy()
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, given in enumerate(options):
        if given.allowed is not None:
            allowed = _ids((*given.allowed, eos))
            kept = scores[row, allowed]
            scores[row] = -np.inf
            scores[row, allowed] = kept
        if given.banned:
            words, phrases = _banned(given.banned)
            scores[row, words] = -np.inf
            if phrases:
                scores[row, list(completing(history[row, : lengths[row]].tolist(), phrases))] = -np.inf
        if given.no_repeat_ngram_size:
            sizes[given.no_repeat_ngram_size].append(row)
    for size, rows in sizes.items():
        which, ids = repeating(history[rows], lengths[rows], size)
        scores[np.array(rows)[which], ids] = -np.inf
    # What came earlier is in the lengths too.
    fewest = np.array([len(given.earlier) + given.min_length for given in options])
    scores[lengths < fewest, eos] = -np.inf
    stuck = scores.max(axis=1) == -np.inf
    scores[stuck, eos] = ending[stuck]


def repeating(history: History, lengths: History, size: int) -> tuple[npt.NDArray[np.int64], History]:
    """Rows, and tokens that would make the row's last ``size`` tokens ones that came before in this order."""
    starts = int(lengths.max(initial=0)) - size + 1
    if starts < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    alike = np.arange(starts) <= (lengths - size)[:, None]  # (rows, starts)
    rows = np.arange(len(history))
    for place in range(size - 1):
        last = history[rows, lengths - size + 1 + place]  # of a row too short for it: anything, and alike nowhere
        alike &= history[:, place : place + starts] == last[:, None]
    which, at = np.nonzero(alike)
    return which, history[which, at + size - 1]


def completing(history: Sequence[int], sequences: Iterable[Sequence[int]]) -> Iterator[int]:
    """Last tokens of the sequences of which all the others came just now."""
    for *head, last in sequences:
        if len(head) <= len(history) and list(history[len(history) - len(head) :]) == head:
            yield last


@lru_cache(maxsize=1024)
def _ids(ids: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(ids, np.int64)


@lru_cache(maxsize=1024)
def _banned(sequences: tuple[tuple[int, ...], ...]) -> tuple[npt.NDArray[np.int64], list[tuple[int, ...]]]:
    """Those of one id, and the longer ones."""
    words = [sequence[0] for sequence in sequences if len(sequence) == 1]
    return np.array(words, np.int64), [sequence for sequence in sequences if len(sequence) > 1]
