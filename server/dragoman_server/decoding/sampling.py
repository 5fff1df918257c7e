"""Drawing the next token: temperature, truncation, and random numbers that depend on nothing but the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import SamplingOptions

_FEW = 64

Probabilities = npt.NDArray[np.float64]
"""(candidates,), of sum 1; 0 for those that are out."""


def uniforms(seed: int, sample: int, count: int) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each step of a sample: a function of seed, sample and step alone.

    Philox is counter based (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).
    """
    key = np.array([seed, sample], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def distribution(log_probs: npt.NDArray[np.floating[Any]], options: SamplingOptions) -> Probabilities:
    """What is drawn from: temperature first, then each truncation on what the one before has left."""
    scaled = log_probs.astype(np.float64) / options.temperature
    probabilities: Probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    if options.top_k:
        probabilities = top_k(probabilities, options.top_k)
    if options.top_p < 1:
        probabilities = top_p(probabilities, options.top_p)
    if options.min_p > 0:
        probabilities = min_p(probabilities, options.min_p)
    if options.typical_p < 1:
        probabilities = typical_p(probabilities, options.typical_p)
    return probabilities


def top_k(probabilities: Probabilities, k: int) -> Probabilities:
    """Keep the ``k`` likeliest (Fan et al. 2018); of equals those that come first."""
    if k >= len(probabilities):
        return probabilities
    least = np.partition(probabilities, -k)[-k]
    likely = np.flatnonzero(probabilities >= least)
    return _only(probabilities, likely[np.argsort(-probabilities[likely], kind="stable")[:k]])


def top_p(probabilities: Probabilities, mass: float) -> Probabilities:
    """Keep the likeliest that together reach ``mass``: the nucleus (Holtzman et al. 2020)."""
    return _only(probabilities, _reaching(-probabilities, probabilities, mass))


def min_p(probabilities: Probabilities, share: float) -> Probabilities:
    """Keep those at least ``share`` as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    return _only(probabilities, np.flatnonzero(probabilities >= share * probabilities.max()))


def typical_p(probabilities: Probabilities, mass: float) -> Probabilities:
    """Keep the most typical that together reach ``mass`` (Meister et al. 2023, Locally typical sampling).

    Typical is what is about as surprising as the distribution is on average: its entropy.
    """
    possible = probabilities > 0
    surprise = np.full_like(probabilities, np.inf)
    surprise[possible] = -np.log(probabilities[possible])
    entropy = float(probabilities[possible] @ surprise[possible])
    return _only(probabilities, _reaching(np.abs(surprise - entropy), probabilities, mass))


def draw(probabilities: Probabilities, uniform: float) -> int:
    """The index at which the cumulative probability passes ``uniform``."""
    cumulative = np.cumsum(probabilities)
    drawn = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    # Past the end only where rounding has made the product the sum itself.
    return drawn if drawn < len(probabilities) else int(np.flatnonzero(probabilities)[-1])


def _reaching(keys: npt.NDArray[np.float64], probabilities: Probabilities, mass: float) -> npt.NDArray[np.int64]:
    """The fewest indices, by ascending key and of equals the first, whose probabilities together reach ``mass``."""
    first = np.arange(len(keys))
    if len(keys) > _FEW:
        # As a rule few are enough: sorting the whole vocabulary costs several times as much.
        first = np.flatnonzero(keys <= np.partition(keys, _FEW - 1)[_FEW - 1])
    order = first[np.argsort(keys[first], kind="stable")]
    reached = int(np.searchsorted(np.cumsum(probabilities[order]), mass, side="left"))
    if reached < len(order) or len(first) == len(keys):
        return order[: reached + 1]
    order = np.argsort(keys)  # not stable, but several times as fast: equals are put in order only where it matters
    reached = int(np.searchsorted(np.cumsum(probabilities[order]), mass, side="left"))
    if reached >= len(order):
        return order
    border = keys[order[reached]]
    inside, equals = np.flatnonzero(keys < border), np.flatnonzero(keys == border)
    missing = mass - probabilities[inside].sum()
    needed = int(np.searchsorted(np.cumsum(probabilities[equals]), missing, side="left"))
    return np.concatenate([inside, equals[: needed + 1]])


def _only(probabilities: Probabilities, kept: npt.NDArray[np.int64]) -> Probabilities:
    result = np.zeros_like(probabilities)
    result[kept] = probabilities[kept]
    result /= result.sum()
    return result
