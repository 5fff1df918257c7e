"""Prompts in a running batch: what each gets is what it gets alone, and what a slow reference says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.errors import Cancelled
from dragoman_server.request import Completion
from tests.unit.server.decoding_requests import decoding_options
from tests.unit.server.fake_runtime import PATIENCE, Caller
from tests.unit.server.prompt_callers import assert_empty, engine_of, expected_of, submit
from tests.unit.server.prompt_reference import ToyPromptRuntime
from tests.unit.server.toy_model import BOS

_prompts = st.lists(st.integers(4, 21), max_size=20).map(lambda ids: [BOS, *ids])


@st.composite
def _callers(draw: st.DrawFn) -> Caller:
    options = dataclasses.replace(draw(decoding_options()), coverage_penalty=0.0, with_attention=False)
    if options.forced:  # a continuation has no end
        prefix = options.prefix[:-1] or (7,)
        options = dataclasses.replace(options, prefix=prefix, max_length=len(prefix))
    elif draw(st.booleans()):
        options = dataclasses.replace(options, earlier=tuple(draw(st.lists(st.integers(4, 12), max_size=6))))
    return Caller(draw(_prompts), options, priority=draw(st.integers(0, 9)))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_each_gets_is_what_its_reference_says_whoever_else_is_there(data: st.DataObject) -> None:
    capacities = data.draw(st.lists(st.integers(5, 9), min_size=1, max_size=2), label="capacities")
    runtimes = [ToyPromptRuntime(capacity, chunk=data.draw(st.integers(1, 6))) for capacity in capacities]
    callers = data.draw(st.lists(_callers(), min_size=1, max_size=10))
    cancelled = data.draw(st.lists(st.booleans(), min_size=len(callers), max_size=len(callers)))
    engine = engine_of(*runtimes)
    submit(engine, *callers)
    for caller, cancel in zip(callers, cancelled, strict=True):
        if cancel:
            caller.request.cancel()
    for caller in callers:
        outcome, options = caller.result(), caller.options
        if isinstance(outcome, Cancelled):
            assert caller.request.cancelled
            continue
        assert isinstance(outcome, Completion)
        expected = expected_of(caller)
        assert [tuple(answer.token_ids) for answer in outcome.answers] == [found.tokens for found in expected]
        assert [answer.finish_reason for answer in outcome.answers] == [found.reason for found in expected]
        for answer, found in zip(outcome.answers, expected, strict=True):
            np.testing.assert_allclose(answer.log_probs, found.log_probs, atol=1e-5)
            assert answer.rank_score == pytest.approx(found.rank(options), abs=1e-5)
    assert_empty(engine)
    engine.stop(PATIENCE)


def test_answers_are_the_same_to_the_bit_alone_and_among_others() -> None:
    kinds = [
        DecodingOptions(max_length=9),
        DecodingOptions(max_length=9, beam_size=4, num_hypotheses=4, repetition_penalty=1.3),
        DecodingOptions(max_length=9, num_hypotheses=3, sampling=SamplingOptions(seed=1, temperature=1.2)),
        DecodingOptions(max_length=9, num_hypotheses=2, sampling=SamplingOptions(seed=2, top_k=5)),
        DecodingOptions(max_length=9, alternatives=5, prefix=(7,)),
        DecodingOptions(max_length=3, prefix=(7, 5, 9), forced=True),
    ]
    random = np.random.default_rng(6)
    texts = [([BOS, *random.integers(4, 22, number % 19).tolist()], kinds[number % len(kinds)]) for number in range(42)]

    def answers(together: bool) -> list[object]:
        engine = engine_of(*([ToyPromptRuntime(11), ToyPromptRuntime(7)] if together else [ToyPromptRuntime(5)]))
        callers = [Caller(source, options) for source, options in texts]
        for caller in callers:
            submit(engine, caller)
            if not together:
                caller.result()
        found: list[object] = [caller.completion().answers for caller in callers]
        engine.stop(PATIENCE)
        return found

    assert answers(together=True) == answers(together=False)
