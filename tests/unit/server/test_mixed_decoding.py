"""All kinds of decoding in one running batch: nobody's answer depends on who else is there."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.progress import Progress
from dragoman_server.decoding.stopping import StopSequences
from dragoman_server.engine import Engine
from dragoman_server.errors import Cancelled, Internal
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.runtime import OnnxRuntime, Runtime, StepOutput
from tests.unit.server import reference, tiny
from tests.unit.server.decoding_requests import decoding_options, letters
from tests.unit.server.toy_model import BOS, EOS, ToyRuntime, toy

PATIENCE = 30.0


class Caller:
    """A request and what came of it."""

    def __init__(self, source: Sequence[int], options: DecodingOptions, *, watches: bool = False) -> None:
        self.outcomes: list[Outcome] = []
        self.told: list[Progress] = []
        self._ended = threading.Event()
        self.request = Request(source, options, self._reply, progress=self.told.append if watches else None)

    def _reply(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._ended.set()

    def result(self) -> Outcome:
        assert self._ended.wait(PATIENCE)
        assert len(self.outcomes) == 1
        return self.outcomes[0]


class CancellingRuntime(ToyRuntime):
    """Cancels requests as its steps go by, so that they leave at a step that the test chose."""

    def __init__(self, max_rows: int) -> None:
        super().__init__(max_rows)
        self.cancellations: list[tuple[int, Request]] = []
        self._steps = 0

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        self._steps += 1
        for step, request in self.cancellations:
            if step <= self._steps:
                request.cancel()
        return super().step(tokens, with_logits=with_logits, with_attention=with_attention)


def engine_of(*runtimes: Runtime) -> Engine:
    return Engine(runtimes, bos=BOS, eos=EOS, max_waiting=1000, max_waiting_tokens=100_000)


def check_progress(told: Sequence[Progress], best: Answer, options: DecodingOptions) -> None:
    """What was final stays, up to the answer; where nothing is open, all is final."""
    finals = [list(progress.final_ids) for progress in told] + [best.token_ids]
    for earlier, later in pairwise(finals):
        assert later[: len(earlier)] == earlier
    for progress in told:
        text = letters(best.token_ids) if best.text is None else best.text
        assert text.startswith(letters(progress.final_ids))
        if options.width == 1 and not options.stop:
            assert not progress.provisional_ids
    if options.width == 1:
        grown = [[*progress.final_ids, *progress.provisional_ids] for progress in told]
        assert grown == [best.token_ids[: step + 1] for step in range(len(told))]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_each_gets_is_what_its_reference_says_whoever_else_is_there(data: st.DataObject) -> None:
    capacities = data.draw(st.lists(st.integers(5, 9), min_size=1, max_size=2), label="capacities")
    requests = data.draw(st.lists(decoding_options(), min_size=1, max_size=14), label="requests")
    callers = [Caller((9, number % 5 + 4), options, watches=number % 3 == 0) for number, options in enumerate(requests)]
    runtimes = [CancellingRuntime(capacity) for capacity in capacities]
    for runtime in runtimes:
        for caller in callers:
            if data.draw(st.integers(0, 5)) == 0:
                runtime.cancellations.append((data.draw(st.integers(1, 20)), caller.request))
    engine = engine_of(*runtimes)
    engine.start()
    for caller in callers:
        engine.submit(caller.request)
    for caller in callers:
        outcome, options = caller.result(), caller.request.options
        if isinstance(outcome, Cancelled):
            assert caller.request.cancelled
            continue
        assert isinstance(outcome, Completion)
        expected = reference.decode(toy(caller.request.source_ids, options), options)
        assert [tuple(answer.token_ids) for answer in outcome.answers] == [found.tokens for found in expected]
        assert [answer.finish_reason for answer in outcome.answers] == [found.reason for found in expected]
        np.testing.assert_allclose(
            [answer.rank_score for answer in outcome.answers], [found.rank(options) for found in expected], atol=1e-5
        )
        for answer, found in zip(outcome.answers, expected, strict=True):
            if options.with_attention:
                assert answer.attention is not None
                np.testing.assert_allclose(answer.attention, found.attention(), atol=1e-7)
        if caller.request.progress:
            assert len(caller.told) == outcome.receipt.steps - 1
            check_progress(caller.told, outcome.best, options)
    state = engine.state()
    assert (state.waiting, state.running, state.rows_used, state.rows_free) == (0, 0, 0, sum(capacities))
    engine.stop(PATIENCE)


def test_a_caller_that_raises_at_progress_gets_its_answer_all_the_same() -> None:
    def progress(told: Progress) -> None:
        raise RuntimeError("the loop is closed")

    engine, other = engine_of(ToyRuntime(4)), Caller((9, 5), DecodingOptions(max_length=9), watches=True)
    raising = Caller((9, 4), DecodingOptions(max_length=9, min_length=5))
    raising.request.progress = progress
    engine.start()
    with structlog.testing.capture_logs() as logs:
        for caller in (raising, other):
            engine.submit(caller.request)
        outcomes = [caller.result() for caller in (raising, other)]
    engine.stop(PATIENCE)
    assert [log["event"] for log in logs] == ["progress could not be delivered"]
    for outcome in outcomes:
        assert isinstance(outcome, Completion)
    assert isinstance(outcomes[1], Completion)
    assert len(other.told) == outcomes[1].receipt.steps - 1


def test_a_text_that_cannot_be_decoded_fails_its_request_alone() -> None:
    def decode(token_ids: Sequence[int]) -> str:
        raise ValueError("no such id")

    plain = DecodingOptions(max_length=9, min_length=4, beam_size=3)
    broken = dataclasses.replace(plain, stop=StopSequences(("e",), decode))
    alone = DecodingOptions(max_length=1, stop=StopSequences(("e",), decode))
    engine = engine_of(ToyRuntime(12))
    callers = [Caller((9, 4), options) for options in (plain, broken, plain, alone)]
    engine.start()
    for caller in callers:
        engine.submit(caller.request)
    outcomes = [caller.result() for caller in callers]
    assert engine.state().rows_used == 0
    engine.stop(PATIENCE)
    assert [type(outcome) for outcome in outcomes] == [Completion, Internal, Completion, Internal]
    expected = reference.decode(toy((9, 4)), plain)
    for outcome in outcomes[::2]:
        assert isinstance(outcome, Completion)
        assert [tuple(answer.token_ids) for answer in outcome.answers] == [found.tokens for found in expected]


def test_answers_are_the_same_to_the_bit_alone_and_among_others() -> None:
    """The toy model is exact, so nothing but the engine could make a difference."""
    random = np.random.default_rng(5)
    kinds = [
        DecodingOptions(max_length=12),
        DecodingOptions(max_length=12, beam_size=4, num_hypotheses=4),
        DecodingOptions(max_length=12, beam_size=3, repetition_penalty=1.3, no_repeat_ngram_size=2),
        DecodingOptions(max_length=12, num_hypotheses=4, sampling=SamplingOptions(seed=1, temperature=1.2)),
        DecodingOptions(max_length=12, num_hypotheses=2, sampling=SamplingOptions(seed=2, top_k=5)),
        DecodingOptions(max_length=12, alternatives=5, prefix=(7,)),
        DecodingOptions(max_length=12, frequency_penalty=0.5, allowed=tuple(range(4, 15))),
        DecodingOptions(max_length=12, beam_size=3, coverage_penalty=0.4, early_stopping=True),
        DecodingOptions(max_length=9, prefix=(7, 5, 9, 11, 7, 6, 6, 4, EOS), forced=True),
    ]
    texts = [((9, 4 + number % 6), kinds[random.integers(len(kinds))]) for number in range(60)]

    def answers(together: bool) -> list[object]:
        engine = engine_of(ToyRuntime(11), ToyRuntime(7)) if together else engine_of(ToyRuntime(5))
        engine.start()
        callers = [Caller(source, options) for source, options in texts]
        outcomes = []
        for caller in callers:
            engine.submit(caller.request)
            if not together:
                outcomes.append(caller.result())
        outcomes = [caller.result() for caller in callers]
        engine.stop(PATIENCE)
        return [outcome.answers if isinstance(outcome, Completion) else outcome for outcome in outcomes]

    assert answers(together=True) == answers(together=False)


def test_a_request_starts_with_one_row_and_one_encoding() -> None:
    encoded: list[int] = []

    class Counting(ToyRuntime):
        def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
            encoded.append(len(rows))
            super().encode(rows, sources)

    engine, caller = engine_of(Counting(8)), Caller((9, 4), DecodingOptions(max_length=5, beam_size=8))
    engine.start()
    engine.submit(caller.request)
    outcome = caller.result()
    engine.stop(PATIENCE)
    assert isinstance(outcome, Completion)
    assert encoded == [1]
    assert outcome.receipt.steps <= 5
    assert 1 <= outcome.receipt.batch_mean <= 8


def test_a_search_that_fails_fails_alone() -> None:
    class Broken(ToyRuntime):
        def step(
            self,
            tokens: Sequence[int] | npt.NDArray[np.int64],
            *,
            with_logits: bool = False,
            with_attention: bool = False,
        ) -> StepOutput:
            output = super().step(tokens, with_logits=with_logits, with_attention=with_attention)
            for row, (source, history) in enumerate(self._rows[: len(tokens)]):
                if source == (9, 9) and len(history) == 3:
                    output.top_log_probs[row] = np.nan
            return output

    engine = engine_of(Broken(12))
    beam = DecodingOptions(max_length=9, beam_size=3, min_length=1)
    callers = [Caller((9, last), beam) for last in (4, 9, 5)]
    engine.start()
    for caller in callers:
        engine.submit(caller.request)
    outcomes = [caller.result() for caller in callers]
    assert engine.state().rows_used == 0
    engine.stop(PATIENCE)
    assert isinstance(outcomes[1], Internal)
    for caller, outcome in zip(callers[::2], outcomes[::2], strict=True):
        assert isinstance(outcome, Completion)
        expected = reference.decode(toy(caller.request.source_ids), beam)
        assert [tuple(answer.token_ids) for answer in outcome.answers] == [found.tokens for found in expected]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


def test_over_real_graphs_everybody_gets_what_it_gets_alone(bundle: LoadedBundle) -> None:
    random = np.random.default_rng(4)
    kinds = [
        DecodingOptions(max_length=20),
        DecodingOptions(max_length=20, beam_size=4, num_hypotheses=4),
        DecodingOptions(max_length=16, beam_size=10, num_hypotheses=2),
        DecodingOptions(max_length=20, num_hypotheses=3, sampling=SamplingOptions(seed=8, top_p=0.9)),
        DecodingOptions(max_length=20, alternatives=3, prefix=(30, 31)),
        DecodingOptions(max_length=20, repetition_penalty=1.5, min_length=5),
    ]
    texts = [
        ([tiny.DE, *random.integers(6, 290, random.integers(1, 30)).tolist(), tiny.EOS], kinds[number % len(kinds)])
        for number in range(48)
    ]

    def lane(max_rows: int) -> OnnxRuntime:
        manifest = bundle.manifest
        return OnnxRuntime(
            bundle.encoder, bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows
        )

    alone, together = engine_of(lane(10)), engine_of(lane(13), lane(17))
    outcomes: list[list[Completion]] = []
    for engine, at_once in ((alone, False), (together, True)):
        engine.start()
        callers = [Caller(source, options) for source, options in texts]
        for caller in callers:
            engine.submit(caller.request)
            if not at_once:
                caller.result()
        results = [caller.result() for caller in callers]
        outcomes.append([result for result in results if isinstance(result, Completion)])
        engine.stop(PATIENCE)
    assert len(outcomes[0]) == len(outcomes[1]) == len(texts)
    for one, other in zip(*outcomes, strict=True):
        assert [a.token_ids for a in one.answers] == [a.token_ids for a in other.answers]
        for a, b in zip(one.answers, other.answers, strict=True):
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-4)
    reasons = {answer.finish_reason for completion in outcomes[0] for answer in completion.answers}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}
    assert max(completion.receipt.batch_mean for completion in outcomes[1]) > 8
