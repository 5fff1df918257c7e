"""A step of plain greedy search: the compiled one does what numpy's does, whatever comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.batch import Advance, Batch
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.request import Request
from dragoman_server.runtime import StepOutput
from tests.unit.server.toy_model import BOS, EOS, ToyRuntime

ROWS, COLUMNS, STEPS = 6, 3, 12
Steps = list[list[tuple[int, float]]]
tokens = st.tuples(st.sampled_from([EOS, 5, 6, 7]), st.one_of(st.floats(-9, 0, width=32), st.just(float("nan"))))


class Lane:
    """A batch that is kept full, and what has become of its requests."""

    def __init__(self, library: Path | None, lengths: list[int]) -> None:
        self.batch = Batch(ToyRuntime(ROWS, library), eos=EOS)
        self._lengths = iter(lengths)
        self._begun: list[Request] = []
        # A runtime gives the same arrays again and again, and parts of them.
        self._ids, self._log_probs = np.zeros((ROWS, COLUMNS), np.int64), np.zeros((ROWS, COLUMNS), np.float32)

    def step(self, best: list[tuple[int, float]]) -> object:
        """What can be seen of the step."""
        while self.batch.rows.free_rows and (length := next(self._lengths, None)):
            request = Request((9, 5), DecodingOptions(max_length=length), lambda outcome: None)
            self._begun.append(request)
            self.batch.join(request, BOS)
        moved = list(map(list, self.batch.settle()))
        rows = self.batch.rows.used
        if not rows:
            return None
        self._ids[:rows, 0], self._log_probs[:rows, 0] = zip(*best[:rows], strict=True)
        return moved, self._seen(self.batch.advance(StepOutput(self._log_probs[:rows], self._ids[:rows])))

    def _seen(self, advance: Advance) -> object:
        table = self.batch.table
        live = [row for row, owner in enumerate(table.owners[: self.batch.rows.end]) if owner is not None]
        return (
            [self._begun.index(task) for task in advance.finished],  # type: ignore[arg-type]
            {self._begun.index(task): str(error) for task, error in advance.failed.items()},  # type: ignore[arg-type]
            list(map(list, advance.copies)),
            advance.nonfinite_rows,
            table.tokens[live].tolist(),
            [(table.token_ids(row), table.scores(row), self._begun.index(table.owners[row])) for row in live],
            [request.answers for request in self._begun],
        )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.lists(tokens, min_size=ROWS, max_size=ROWS), max_size=STEPS),
    lengths=st.lists(st.integers(1, 5), max_size=20),
)
def test_compiled_steps_are_numpys(compiled: Path, steps: Steps, lengths: list[int]) -> None:
    lanes = [Lane(None, lengths), Lane(compiled, lengths)]
    for best in steps:
        one, other = (lane.step(best) for lane in lanes)
        assert one == other


@pytest.mark.parametrize("with_library", [False, True])
def test_others_beside_them_change_nothing(compiled: Path, with_library: bool) -> None:
    """While a beam is decoded too, greedy rows take the way of all; they end as they do alone."""
    library = compiled if with_library else None
    answers = []
    for beams in (0, 1):
        runtime = ToyRuntime(ROWS, library)
        batch = Batch(runtime, eos=EOS, source_capacity=runtime.source_capacity)
        request = Request((9, 5, 7), DecodingOptions(max_length=9), lambda outcome: None)
        others = [Request((4, 8), DecodingOptions(max_length=4, beam_size=3), lambda outcome: None)] * beams
        for joiner in (request, *others):
            runtime.encode([batch.join(joiner, BOS)], [joiner.source_ids])
        while not request.answers:
            advance = batch.advance(runtime.step(batch.tokens, with_logits=batch.needs_logits))
            for moves in (*advance.copies, *batch.settle()):
                runtime.copy(moves)
        answers.append(request.answers)
    assert answers[0] == answers[1]
