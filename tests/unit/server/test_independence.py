"""The proof of independence, and that it finds what it is there to find."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import structlog
from rich.console import Console

from dragoman_server.errors import Internal
from dragoman_server.independence.cases import KINDS, WIDEST
from dragoman_server.independence.checking import Result, check, translating
from dragoman_server.independence.encoding import compare_encodings, sources_of_every_length
from dragoman_server.independence.traffic import TrafficError
from dragoman_server.progress import Stages
from dragoman_server.runtime import Runtime, StepOutput
from tests.unit.server.independence_cases import cases
from tests.unit.server.toy_model import BOS, EOS, ToyRuntime


class Doctored(ToyRuntime):
    """Its scores depend on the batch: with company, the log-probabilities are ``change``d."""

    def __init__(self, max_rows: int, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> None:
        super().__init__(max_rows)
        self._change = change

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        output = super().step(tokens, **asked)
        if len(tokens) <= WIDEST:  # as many rows as one request may have
            return output
        changed = self._change(output.top_log_probs)
        logits = None if output.logits is None else self._change(output.logits)
        order = np.argsort(-changed, axis=1, kind="stable")
        ids = np.take_along_axis(output.top_ids, order, axis=1)
        return output._replace(top_log_probs=np.take_along_axis(changed, order, axis=1), top_ids=ids, logits=logits)


class Distracted(ToyRuntime):
    """Only its attention depends on the batch: with company, each weight is ``change``d."""

    def __init__(self, max_rows: int, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> None:
        super().__init__(max_rows)
        self._change = change

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        output = super().step(tokens, **asked)
        if len(tokens) <= WIDEST or output.attention is None:
            return output
        return output._replace(attention=self._change(output.attention))


class Failing(ToyRuntime):
    """Its graph fails when it has company."""

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        if len(tokens) > WIDEST:
            raise RuntimeError("no memory")
        return super().step(tokens, **asked)


def by_one_bit(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.nextafter(scores, np.float32(-np.inf))


def by_a_lot(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The best becomes the worst."""
    changed = scores.copy()
    changed[np.arange(len(scores)), scores.argmax(axis=1)] -= 25
    return changed


def results(runtime: Callable[[int], Runtime], precision: str = "int8") -> list[Result]:
    stages = Stages(Console(file=io.StringIO()))
    subject = translating(precision, BOS, EOS, runtime)
    return check(subject, cases(), lanes=[1, 2], max_rows=32, seed=1, stages=stages)[0]


def test_an_honest_model_holds() -> None:
    found = results(ToyRuntime)
    assert [(line.kind, line.lanes) for line in found] == [(kind, lanes) for lanes in (1, 2) for kind in KINDS]
    for line in found:
        assert line.holds
        assert line.comparison.requests
        assert line.comparison.tokens
        assert line.comparison.scores > line.comparison.tokens
    assert {line.kind for line in found if line.comparison.weights} == set(KINDS)
    assert sum(line.comparison.watched for line in found) > 20


def test_one_bit_that_depends_on_the_batch_is_found() -> None:
    found = results(lambda rows: Doctored(rows, by_one_bit))
    assert not any(line.holds for line in found if line.lanes == 1)
    for line in found:
        assert line.comparison.largest_difference < 1e-4
    assert sum(line.comparison.different_scores for line in found) > 100


def test_fp32_may_differ_by_one_bit_but_not_by_a_token() -> None:
    assert all(line.holds for line in results(lambda rows: Doctored(rows, by_one_bit), "fp32"))
    found = results(lambda rows: Doctored(rows, by_a_lot), "fp32")
    # A target that is scored is given.
    assert not any(line.comparison.parted for line in found if line.kind == "forced")
    free = [line for line in found if line.lanes == 1 and line.kind != "forced"]
    assert not any(line.holds for line in free)
    assert sum(line.comparison.different_tokens for line in found) > 100
    assert all(line.comparison.parted for line in free)


@pytest.mark.parametrize(("change", "fp32"), [(by_one_bit, True), (lambda weights: weights + np.float32(1e-3), False)])
def test_attention_that_depends_on_the_batch_is_found(
    change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], fp32: bool
) -> None:
    found = [line.comparison for line in results(lambda rows: Distracted(rows, change))]
    assert sum(line.different_weights for line in found) > 100
    assert not any(line.holds("int8") for line in found if line.different_weights)
    # Beside the attention itself only the ranks that cover it may differ.
    assert all(line.different_scores < line.scores / 4 for line in found)
    assert all(line.holds("fp32") for line in found) == fp32


def test_a_request_that_fails_is_no_proof() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    with pytest.raises(TrafficError, match="Internal") as caught:
        results(Failing)
    assert isinstance(caught.value.__cause__, Internal)


class EncodingFake:
    """An encoder without weights; ``leak`` adds to the encoding what came with it."""

    max_rows, source_capacity = 6, 9

    def __init__(self, leak: float) -> None:
        self._leak = leak
        self._rows: dict[int, npt.NDArray[Any]] = {}

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = np.array(source, np.float32) + np.float32(self._leak * (len(rows) > 1))

    def encoded(self, row: int) -> list[npt.NDArray[Any]]:
        return [self._rows[row].copy(), -self._rows[row]]


@pytest.mark.parametrize(("leak", "int8", "fp32"), [(0, True, True), (1e-5, False, True), (1, False, False)])
def test_encodings_that_depend_on_their_company_are_found(leak: float, int8: bool, fp32: bool) -> None:
    sources = sources_of_every_length([5, 6, 7], first=1, last=3, longest=9, seed=1)
    assert sorted({len(source) for source in sources}) == list(range(1, 10))
    found = compare_encodings(EncodingFake(leak), sources, seed=2, advance=lambda count: None)
    assert (found.holds("int8"), found.holds("fp32")) == (int8, fp32)
    assert found.requests == 3 * len(sources)
    assert found.scores == 2 * found.tokens
