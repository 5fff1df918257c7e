"""Engines over the toy model of texts, and callers whose prompts go on as long as they may."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from dragoman_server.decoding.hypothesis import FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.prompt_engine import PromptEngine
from tests.unit.server import reference
from tests.unit.server.fake_runtime import PATIENCE, Caller
from tests.unit.server.prompt_reference import PromptToy, ToyPromptRuntime
from tests.unit.server.toy_model import BOS, EOS

Start = Callable[..., PromptEngine]


def engine_of(*runtimes: ToyPromptRuntime, clock: Callable[[], float] = time.monotonic) -> PromptEngine:
    engine = PromptEngine(runtimes, eos=EOS, max_waiting=1000, max_waiting_tokens=100_000, clock=clock)
    engine.start()
    return engine


def forever(*prompt: int, max_length: int = 20, **others: float) -> Caller:
    """A request that takes ``max_length`` steps."""
    options = DecodingOptions(max_length=max_length, min_length=max_length - 1, banned=((EOS,),))
    return Caller([BOS, *prompt], options, **others)  # type: ignore[arg-type]


def wait_for_work(runtime: ToyPromptRuntime, times: int = 1) -> None:
    """Until so many steps or chunks have begun that had not been waited for."""
    for _ in range(times):
        assert runtime.working.acquire(timeout=PATIENCE)


def submit(engine: PromptEngine, *callers: Caller) -> None:
    for caller in callers:
        engine.submit(caller.request)


def assert_empty(engine: PromptEngine) -> None:
    state = engine.state()
    assert (state.waiting, state.waiting_tokens, state.running, state.rows_used) == (0, 0, 0, 0)


def expected_of(caller: Caller) -> list[reference.Found]:
    prompt, options = tuple(caller.source), caller.options
    if options.forced:
        found = reference.forced(
            PromptToy(prompt, options), dataclasses.replace(options, prefix=(*options.prefix, EOS))
        )
        return [reference.Found(found.tokens, found.log_probs[:-1], FinishReason.LENGTH)]
    return reference.decode(PromptToy(prompt, options), options)
