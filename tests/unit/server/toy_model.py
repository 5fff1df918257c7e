"""A toy model to decode: logits and attention without any structure, and rows that answer with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.rows import Move, Moves
from dragoman_server.runtime import StepOutput

Floats = npt.NDArray[np.float32]

BOS, EOS, VOCABULARY, TOP_K = 2, 3, 24, 6


@lru_cache(maxsize=200_000)
def toy_logits(source: tuple[int, ...], history: tuple[int, ...]) -> Floats:
    """A model without any structure: every prefix has logits of its own, flat or peaked."""
    random = np.random.default_rng([*source, 1_000, *history])
    logits = random.normal(scale=random.choice([0.5, 2.0, 5.0]), size=VOCABULARY).astype(np.float32)
    logits[:EOS] = -30
    logits[EOS] += 1
    return logits


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    result: Floats = (shifted - np.log(np.exp(shifted).sum(dtype=np.float64))).astype(np.float32)
    return result


@lru_cache(maxsize=200_000)
def toy_attention(source: tuple[int, ...], history: tuple[int, ...]) -> Floats:
    """What the toy model attends to, (source,), where it says what follows the history."""
    random = np.random.default_rng([*source, 2_000, *history])
    return random.dirichlet(np.full(len(source), 0.4)).astype(np.float32)


def penalised(logits: npt.NDArray[np.float64], history: tuple[int, ...], options: DecodingOptions) -> None:
    """Put the options' penalties on what was produced, in place."""
    for token in set(history):
        penalty = options.repetition_penalty
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        logits[token] -= options.presence_penalty + options.frequency_penalty * history.count(token)


@dataclass(frozen=True)
class Toy:
    """The toy model for one source, with the options' penalties."""

    source: tuple[int, ...]
    options: DecodingOptions | None = None

    def __call__(self, history: tuple[int, ...]) -> Floats:
        logits = toy_logits(self.source, history).astype(np.float64)
        if self.options:
            penalised(logits, history, self.options)
        return log_softmax(logits.astype(np.float32))

    def attention(self, tokens: tuple[int, ...], steps: int) -> Floats:
        """(steps, source), along the tokens."""
        return np.array([toy_attention(self.source, tokens[:step]) for step in range(steps)])


def toy(source: Sequence[int], options: DecodingOptions | None = None) -> Toy:
    """The toy model's answers for one source, with the options' penalties."""
    return Toy(tuple(source), options)


class ToyRuntime:
    """The toy model behind rows that know nothing but what was fed to them: a row that leaks or is mixed up shows."""

    source_capacity, target_capacity, top_k = 64, 64, TOP_K

    def __init__(self, max_rows: int, kernels: Path | None = None) -> None:
        self.max_rows, self.kernels = max_rows, kernels
        self.steps_with_logits = self.steps_with_attention = 0
        self._rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())] * max_rows

    def warm_up(self) -> None: ...

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = (tuple(source), ())

    def copy(self, moves: Sequence[Move]) -> None:
        sources, targets = [move.source for move in moves], [move.target for move in moves]
        assert not set(sources) & set(targets)
        assert len(set(targets)) == len(targets)
        siblings = isinstance(moves, Moves) and moves.siblings
        for source, target, kept in moves:
            if siblings:
                assert self._rows[source][0] == self._rows[target][0]
                assert len(self._rows[source][1]) == len(self._rows[target][1])
            assert self._rows[source][1][:kept] == self._rows[target][1][:kept]
            assert not kept or self._rows[source][0] == self._rows[target][0]
            self._rows[target] = self._rows[source]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        fed = np.asarray(tokens).tolist()
        self._rows[: len(fed)] = [(row[0], (*row[1], token)) for row, token in zip(self._rows, fed, strict=False)]
        live = [(source, history[1:]) for source, history in self._rows[: len(fed)]]
        assert all(history[0] == BOS for _, history in self._rows[: len(fed)])
        logits = np.array([toy_logits(*row) for row in live])
        log_probs = np.array([log_softmax(row) for row in logits])
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :TOP_K]
        self.steps_with_logits += with_logits
        self.steps_with_attention += with_attention
        attention = np.zeros((len(fed), max(len(source) for source, _ in live) + 1), np.float32)
        for row, (source, history) in enumerate(live):
            attention[row, : len(source)] = toy_attention(source, history)
        return StepOutput(
            np.take_along_axis(log_probs, ids, axis=1),
            ids,
            logits if with_logits else None,
            attention if with_attention else None,
        )
