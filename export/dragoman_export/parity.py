"""How far a pair of graphs is from PyTorch: logits along PyTorch's own greedy decodes, and greedy outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dragoman_export.reference import fed_part, forced_logits
from dragoman_export.sentences import Direction
from dragoman_export.stepping import SteppedGraphs, batches
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Tie

PARITY_SENTENCES = 500


@dataclass(frozen=True)
class ParitySentence:
    """One of the sentences that outputs are compared on."""

    line: int
    """Of the test set's usable pairs, from 1."""
    direction: Direction


def choose_sentences(
    pairs: int, directions: Sequence[Direction], count: int = PARITY_SENTENCES
) -> list[ParitySentence]:
    """At most ``count`` sentences, as many of each direction, evenly spaced over the test set by turns."""
    ways = len(directions)
    each = min(pairs, count // ways)
    return [
        ParitySentence((number * pairs + way * pairs // ways) // each + 1, direction)
        for number in range(each)
        for way, direction in enumerate(directions)
    ]


@dataclass(frozen=True)
class LogitComparison:
    """Logits of several precisions against PyTorch's, over every step of every sentence."""

    largest: dict[str, float]
    """By precision: the largest absolute difference of a logit."""
    gaps: list[list[float]]
    """By sentence and step: PyTorch's best logit less its second best."""


def compare_logits(
    model: Transformer,
    graphs: Mapping[str, SteppedGraphs],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    max_length: int,
    advance: Callable[[int], None] = lambda count: None,
) -> LogitComparison:
    """Feed all with PyTorch's greedy ``targets`` and compare what they say next."""
    fed = [fed_part(target, max_length) for target in targets]
    largest = dict.fromkeys(graphs, 0.0)
    gaps: list[list[float]] = [[] for _ in sources]
    for chosen in batches(sources, fed, rows=32):
        batch_sources, batch_fed = [sources[i] for i in chosen], [fed[i] for i in chosen]
        expected = forced_logits(model, batch_sources, batch_fed)  # (batch, steps, vocabulary)
        best_two = -np.partition(-expected, 1, axis=-1)[..., :2]
        for row, index in enumerate(chosen):
            gaps[index] = (best_two[row, : len(fed[index]) + 1] @ np.array([1.0, -1.0])).tolist()
        for precision, stepped in graphs.items():
            for step in stepped.force(stepped.encode(batch_sources), batch_fed, ["logits"]):
                difference = step.outputs["logits"][step.active] - expected[step.active, step.number]
                largest[precision] = _larger(largest[precision], float(np.abs(difference).max()))
        advance(len(chosen))
    return LogitComparison(largest, gaps)


def _larger(known: float, found: float) -> float:
    """The larger one; NaN outranks every number."""
    return found if np.isnan(found) or found > known else known


def find_ties(
    sentences: Sequence[ParitySentence],
    expected: Sequence[Sequence[int]],
    found: Sequence[Sequence[int]],
    gaps: Sequence[Sequence[float]],
) -> list[Tie]:
    """The sentences whose outputs differ, with PyTorch's gap at the step where they part."""
    ties = []
    for sentence, left, right, gap in zip(sentences, expected, found, gaps, strict=True):
        if list(left) != list(right):
            step = first_difference(left, right)
            ties.append(Tie(line=sentence.line, direction=str(sentence.direction), logit_gap=gap[step]))
    return ties


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    """The first step at which two outputs differ; the end of the shorter one is its end-of-sentence."""
    for step, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return step
    return min(len(left), len(right))
