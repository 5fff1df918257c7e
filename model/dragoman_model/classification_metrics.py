"""Quality of labels and tags: accuracy, macro F1, and what a threshold on the probability finds out of scope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]
OUT_OF_SCOPE = -1
"""Stands for the label of a text that has none."""
REFUSAL_COST = 0.03
"""Share of the texts in scope that may be refused although their label is right."""


@dataclass(frozen=True)
class ScopeScores:
    """What becomes of texts when those below a threshold are refused; all are shares from 0 to 1."""

    in_scope_accuracy: float
    """In-scope texts that are given their label; a refused one counts as wrong."""
    recall: float
    """Out-of-scope texts that are refused."""
    precision: float
    """Refused texts that are out of scope; 1 if none is refused."""


def accuracy(predicted: Numbers, wanted: Numbers) -> float:
    """Share of equal entries; ValueError if there are none."""
    if len(wanted) == 0:
        raise ValueError("accuracy of nothing")
    return float((predicted == wanted).mean())


def macro_f1(predicted: Numbers, wanted: Numbers, classes: int) -> float:
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN); a class that neither side has is left out.

    What is said beyond the ``classes`` is no class of its own: it only misses.
    """
    hits, said, there_are = (
        np.bincount(numbers, minlength=classes)[:classes]
        for numbers in (wanted[predicted == wanted], predicted, wanted)
    )
    total = said + there_are
    there = total > 0
    return float((2.0 * hits[there] / total[there]).mean())


def multi_label_f1(predicted: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_]) -> float:
    """Macro F1 of (texts, labels) yes-or-no answers; a label that neither side ever has is left out."""
    hits = (predicted & wanted).sum(axis=0)
    total = predicted.sum(axis=0) + wanted.sum(axis=0)
    there = total > 0
    return float((2.0 * hits[there] / total[there]).mean())


def scope_scores(probability: Floats, predicted: Numbers, wanted: Numbers, threshold: float) -> ScopeScores:
    """``probability`` and ``predicted`` of the likeliest label, ``wanted`` with OUT_OF_SCOPE for a text that has none.

    A text is refused when its probability is below the threshold. ValueError unless both kinds of text are there.
    """
    outside = wanted == OUT_OF_SCOPE
    if outside.all() or not outside.any():
        raise ValueError("texts in scope and out of scope are needed")
    refused = probability < threshold
    right = (predicted == wanted) & ~refused
    return ScopeScores(
        in_scope_accuracy=float(right[~outside].mean()),
        recall=float(refused[outside].mean()),
        precision=float((refused & outside).sum() / refused.sum()) if refused.any() else 1.0,
    )


def choose_threshold(probability: Floats, predicted: Numbers, wanted: Numbers, *, cost: float = REFUSAL_COST) -> float:
    """The highest of the hundredths from 0 to 1 at which accuracy in scope falls by at most ``cost``.

    The more is refused, the more of what is out of scope: so no other threshold of that cost finds more of it.
    """
    plain = scope_scores(probability, predicted, wanted, 0.0).in_scope_accuracy
    candidates = [number / 100 for number in range(101)]
    accuracies = [scope_scores(probability, predicted, wanted, t).in_scope_accuracy for t in candidates]
    # A hair of tolerance: the difference of two shares is not exact.
    return max(t for t, kept in zip(candidates, accuracies, strict=True) if kept >= plain - cost - 1e-9)
