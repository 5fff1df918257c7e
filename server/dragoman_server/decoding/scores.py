"""What the graph said of a request's rows, after the filters: candidates of each, best first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.filters import penalise, restrict
from dragoman_server.decoding.hypothesis import Hypothesis, NonFiniteScoreError
from dragoman_server.decoding.options import DecodingOptions

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput

Floats = npt.NDArray[np.floating[Any]]


class Scores(Protocol):
    """Log-probabilities of what comes next, for each live hypothesis of one request."""

    def row(self, index: int) -> tuple[npt.NDArray[np.int64] | None, Floats]:
        """Ids in ascending order, or None for all, and their log-probabilities; minus infinity: must not come."""

    def best(self, index: int, count: int) -> tuple[list[int], list[float]]:
        """The ``count`` likeliest that may come, or all if they are fewer; of equals the lower id comes first."""

    def of(self, index: int, token_id: int) -> float:
        """The log-probability of one token, whether it may come or not. Only from logits."""


class StepScores:
    """What one step gave to all rows; turned into lists once, and only where some request reads them."""

    def __init__(self, output: StepOutput) -> None:
        self.output = output

    @cached_property
    def top_ids(self) -> list[list[int]]:
        """(rows, top_k)."""
        ids: list[list[int]] = self.output.top_ids.tolist()
        return ids

    @cached_property
    def top_log_probs(self) -> list[list[float]]:
        """(rows, top_k)."""
        log_probs: list[list[float]] = self.output.top_log_probs.tolist()
        return log_probs


class TopScores:
    """The graph's own candidates, the best ``count`` of each row, for steps without any filter."""

    def __init__(self, live: Sequence[Hypothesis], step: StepScores, count: int) -> None:
        self._count = count
        self._rows = [hypothesis.row for hypothesis in live]
        self._step = step
        self._ids, self._log_probs = step.top_ids, step.top_log_probs
        greatest = [self._log_probs[row][0] for row in self._rows]
        if not isfinite(sum(greatest)):
            raise _fault(greatest, live)

    def row(self, index: int) -> tuple[npt.NDArray[np.int64] | None, Floats]:
        """As ``Scores`` says, of the candidates alone; in the vocabulary's order, so that draws are the same."""
        row, output = self._rows[index], self._step.output
        ids, log_probs = output.top_ids[row, : self._count], output.top_log_probs[row, : self._count]
        order = ids.argsort()
        return ids[order], log_probs[order]

    def best(self, index: int, count: int) -> tuple[list[int], list[float]]:
        """As ``Scores`` says."""
        row = self._rows[index]
        return self._ids[row][:count], self._log_probs[row][:count]

    def of(self, index: int, token_id: int) -> float:
        """Never asked: the token may be none of the candidates."""
        raise AssertionError("a step that needs any token's score needs logits")


class LogitScores:
    """All of the vocabulary, from the logits and through the filters."""

    def __init__(self, live: Sequence[Hypothesis], step: StepScores, options: DecodingOptions, eos: int) -> None:
        assert step.output.logits is not None, "the step was run without logits"
        logits = step.output.logits[[hypothesis.row for hypothesis in live]]  # (live, vocabulary), a copy
        if options.penalises:
            for row, hypothesis in zip(logits, live, strict=True):
                penalise(row, hypothesis.token_ids, options)
        self._log_probs = log_softmax(logits)
        greatest = self._log_probs.max(axis=1)
        if not np.isfinite(greatest).all():
            raise _fault(greatest.tolist(), live)
        self._allowed = self._log_probs
        if options.restricts or len(live[0].token_ids) < options.min_length:
            self._allowed = self._log_probs.copy()
            for row, hypothesis in zip(self._allowed, live, strict=True):
                restrict(row, hypothesis.token_ids, options, eos)

    def row(self, index: int) -> tuple[npt.NDArray[np.int64] | None, Floats]:
        """As ``Scores`` says."""
        return None, self._allowed[index]

    def best(self, index: int, count: int) -> tuple[list[int], list[float]]:
        """As ``Scores`` says."""
        ids = best(self._allowed[index], count)
        return ids.tolist(), self._allowed[index, ids].tolist()

    def of(self, index: int, token_id: int) -> float:
        """As ``Scores`` says."""
        return float(self._log_probs[index, token_id])


def log_softmax(logits: Floats) -> Floats:
    """Of each row of (rows, vocabulary) for itself; NaN where a logit is NaN or plus infinity."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
        log_probs: Floats = (shifted - np.log(total)).astype(logits.dtype)
        return log_probs


def best(values: Floats, count: int) -> npt.NDArray[np.int64]:
    """Indices of the ``count`` greatest values above minus infinity, greatest first, of equals the first."""
    if count == 1:
        greatest = int(values.argmax())
        return np.array([greatest] if values[greatest] > -np.inf else [], np.int64)
    if count < len(values) and (border := np.partition(values, -count)[-count]) > -np.inf:
        indices = np.flatnonzero(values >= border)
    else:
        indices = np.flatnonzero(values > -np.inf)
    return indices[np.argsort(-values[indices], kind="stable")[:count]]


def _fault(greatest: Sequence[float], live: Sequence[Hypothesis]) -> NonFiniteScoreError:
    return NonFiniteScoreError(f"scores = {greatest} at step {len(live[0].token_ids) + 1}")
