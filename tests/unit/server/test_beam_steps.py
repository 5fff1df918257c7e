"""Steps of beam search by numpy and by the compiled library: the same to the bit, whatever the model says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.batch import Advance, Batch
from dragoman_server.decoding.beam_compiled import CompiledSearch
from dragoman_server.decoding.beam_state import BeamState
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences
from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.request import Request
from dragoman_server.rows import Move
from dragoman_server.runtime import StepOutput
from tests.unit.server.decoding_requests import letters
from tests.unit.server.toy_model import BOS, EOS

ROWS, STEPS, TOP_K, VOCABULARY = 24, 24, 12, 40


@dataclasses.dataclass
class Given:
    """What a step may say of every row: likeliest first, with ties, and less than there could be."""

    kernels: Path | None
    max_rows: int = ROWS
    target_capacity: int = STEPS
    top_k: int = TOP_K

    def warm_up(self) -> None: ...

    def copy(self, moves: Sequence[Move]) -> None: ...

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        raise NotImplementedError


def outputs(seed: int, coarse: bool, ending: float = 0.2) -> Iterator[StepOutput]:
    """One for each step, of all rows; in so many of them the likeliest token ends."""
    random = np.random.default_rng(seed)
    missing = [0, 0.3, 0.8] if ending > 0.1 else [0]
    while True:
        log_probs = -random.exponential(2, (ROWS, TOP_K)).astype(np.float32)
        if coarse:
            log_probs = np.round(log_probs)
        log_probs[random.random((ROWS, TOP_K)) < random.choice(missing)] = -np.inf
        log_probs = -np.sort(-log_probs, axis=1)
        log_probs[:, 0] = np.maximum(log_probs[:, 0], -9)
        ids = np.argsort(random.random((ROWS, VOCABULARY)), axis=1)[:, :TOP_K]
        if ending <= 0.1:
            ids[ids == EOS] = VOCABULARY
        ids[:, 0] = np.where(random.random(ROWS) < ending, EOS, ids[:, 0])
        if random.random() < 0.8:  # as a runtime has them; compiled steps of other arrays are taken in parts
            ids = np.ascontiguousarray(ids)
        yield StepOutput(log_probs, ids)


beams = st.builds(
    DecodingOptions,
    max_length=st.integers(1, 9),
    beam_size=st.sampled_from([2, 3, 3, 6]),
    num_hypotheses=st.integers(1, 3),
    patience=st.sampled_from([0.5, 1.0, 2.0]),
    early_stopping=st.booleans(),
    length_penalty=st.builds(LengthPenalty, st.sampled_from([0.0, 0.6, 1.0, 2.0]), st.booleans()),
    stop=st.sampled_from([None, None, None, StopSequences(("a", "bc"), letters)]),
)


def snapshot(batch: Batch, advance: Advance, requests: dict[int, Request]) -> list[object]:
    """All that a step has changed, once rows are settled."""
    copies = [*advance.copies, *batch.settle()]
    table, used = batch.table, batch.rows.used
    names = {id(request): number for number, request in requests.items()}
    return [
        used,
        table.tokens[:used].tolist(),
        [table.token_ids(row) for row in range(used)],
        [table.scores(row) for row in range(used)],
        [names[id(owner)] for owner in table.owners[:used]],
        [list(moves) for moves in copies],
        [names[id(task)] for task in advance.finished],
        [[repr(answer) for answer in request.answers] for request in requests.values()],
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_compiled_steps_are_numpy_s(compiled: Path, data: st.DataObject) -> None:
    batches = [Batch(Given(kernels), eos=EOS) for kernels in (None, compiled)]
    requests: list[dict[int, Request]] = [{}, {}]
    ending = data.draw(st.sampled_from([0.2, 0.02]))
    model = outputs(data.draw(st.integers(0, 10_000)), data.draw(st.booleans()), ending)
    width = data.draw(st.sampled_from([None, 2, 3]))  # all of one, often: then a step may be taken at once
    number = 0
    for output in (next(model) for _ in range(data.draw(st.integers(1, 20)))):
        running = {request for request in requests[0].values() if request in set(batches[0].table.owners.tolist())}
        for options in data.draw(st.lists(beams, max_size=3)):
            if width is not None:
                options = dataclasses.replace(options, beam_size=width)  # noqa: PLW2901
            if sum(request.options.width for request in running) + options.width > ROWS:
                break
            number += 1
            for batch, known in zip(batches, requests, strict=True):
                known[number] = Request((9, 5), options, lambda outcome: None)
                batch.join(known[number], BOS)
            running.add(requests[0][number])
        if number and data.draw(st.integers(0, 4)) == 0:
            gone = data.draw(st.integers(1, number))
            for batch, known in zip(batches, requests, strict=True):
                batch.leave([known[gone]])
            left = [[list(moves) for moves in batch.settle()] for batch in batches]
            assert left[0] == left[1]
        used = batches[0].rows.used
        if not used:
            continue
        given_rows = StepOutput(output.top_log_probs[:used], output.top_ids[:used])
        numpy_s, compiled_s = (
            snapshot(batch, batch.advance(given_rows), known) for batch, known in zip(batches, requests, strict=True)
        )
        assert numpy_s == compiled_s


def test_a_step_that_is_no_number_ends_the_same_way(compiled: Path) -> None:
    found = []
    for kernels in (None, compiled):
        batch = Batch(Given(kernels), eos=EOS)
        known: dict[int, Request] = {}
        for number in range(3):
            known[number] = Request((9, 5), DecodingOptions(max_length=9, beam_size=3), lambda outcome: None)
            batch.join(known[number], BOS)
        steps: list[Advance] = []
        for step, output in zip(range(4), outputs(1, coarse=False), strict=False):
            batch.settle()
            used = batch.rows.used
            if step == 2:
                output.top_log_probs[4] = np.nan
            steps.append(batch.advance(StepOutput(output.top_log_probs[:used], output.top_ids[:used])))
            assert bool(steps[-1].failed) == (step == 2)
        found.append(snapshot(batch, steps[-1], known))
    assert found[0] == found[1]


def test_a_step_is_taken_at_once(compiled: Path) -> None:
    log_probs = np.log(np.array([[0.5, 0.3, 0.1, 0.05], [0.4, 0.3, 0.2, 0.05]], np.float32))
    ids = np.array([[7, 8, 9, EOS], [10, 11, 12, EOS]])
    for second, tokens, replaced in ((-1.2, [[7], [10]], [[], []]), (-2.0, [[7], [8]], [[0], [1]])):
        table, state = HypothesisTable(ROWS, STEPS, 0, compiled), BeamState(2, ROWS)
        search = CompiledSearch(state, STEPS, compiled)
        task = Request((9, 5), DecodingOptions(max_length=9, beam_size=2), lambda outcome: None)
        for row in (0, 1):
            table.start(row, task, BOS, 0)
        state.add(0, -1.0, (9, 2, -np.inf, 9, 0, 0, 1, -np.inf))
        state.rows[0], state.scores[0] = (0, 1), (-1.0, second)
        state.steps += 1
        found = search.advance(StepOutput(log_probs, ids), table, EOS)
        assert found is not None
        assert [found.replaced.sources.tolist(), found.replaced.targets.tolist()] == replaced
        assert found.replaced.kept.tolist() == [1] * len(replaced[0])  # the position of what was fed first
        assert found[:2] == ([], [])
        assert [table.token_ids(row) for row in (0, 1)] == tokens
        before = state.rows.copy(), state.scores.copy(), table.tokens.copy()
        state.steps += 1
        assert search.advance(StepOutput(np.full_like(log_probs, np.nan), ids), table, EOS) is None
        for array, kept in zip((state.rows, state.scores, table.tokens), before, strict=True):
            np.testing.assert_array_equal(array, kept)
        found = search.advance(StepOutput(log_probs, np.full_like(ids, EOS)), table, EOS)
        assert found is not None
        assert [(index, ending.token_id, len(ending.past[0])) for index, ending in found.ended] == [(0, EOS, 1)]
        assert (found.done, found.freed, state.count) == ([0], [0, 1], 0)


def test_a_hypothesis_without_others_forks(compiled: Path) -> None:
    table, state = HypothesisTable(ROWS, STEPS, 0, compiled), BeamState(2, ROWS)
    search = CompiledSearch(state, STEPS, compiled)
    table.start(0, Request((9, 5), DecodingOptions(max_length=9, beam_size=2), lambda outcome: None), BOS, 0)
    state.add(0, 0.0, (9, 2, -np.inf, 9, 0, 0, 1, -np.inf))
    state.steps += 1
    output = StepOutput(np.log(np.array([[0.5, 0.3, 0.1, 0.05]], np.float32)), np.array([[7, 8, 9, EOS]]))
    found = search.advance(output, table, EOS)
    assert found is not None
    assert (found.forked, found.freed, state.rows.tolist()) == ([0], [], [[0, ROWS]])
    assert table.token_ids(0) == []  # nothing stands before the fork has its row
