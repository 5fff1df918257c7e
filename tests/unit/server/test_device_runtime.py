"""Caches that only graphs reach, as on a GPU, against those that the host reads and writes: the same bits.

Both are on the processor here: what is tested is the way, not the device.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.device import CPU, Device
from dragoman_server.engine import Engine
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.rows import Move
from dragoman_server.runtime import OnnxRuntime, StepOutput
from tests.unit.server import tiny, tiny_decoder

RESIDENT = Device(resident=True)
ROWS = 6
PATIENCE = 60.0


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny_decoder.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


def translating(bundle: LoadedBundle, device: Device, kind: type[OnnxRuntime] = OnnxRuntime) -> OnnxRuntime:
    manifest = bundle.manifest
    return kind(
        bundle.encoder,
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=ROWS,
        device=device,
    )


def writing(bundle: LoadedBundle, device: Device) -> OnnxPromptRuntime:
    manifest = bundle.manifest
    return OnnxPromptRuntime(
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=ROWS,
        prefill_chunk=8,
        device=device,
    )


@pytest.fixture(scope="module")
def translators(translator: LoadedBundle) -> list[OnnxRuntime]:
    runtimes = [translating(translator, device) for device in (CPU, RESIDENT)]
    for runtime in runtimes:
        runtime.warm_up()
    return runtimes


def assert_same(outputs: Sequence[StepOutput]) -> None:
    expected, found = outputs
    np.testing.assert_array_equal(found.top_ids, expected.top_ids)
    np.testing.assert_array_equal(found.top_log_probs, expected.top_log_probs)
    for of_found, of_expected in ((found.logits, expected.logits), (found.attention, expected.attention)):
        assert (of_found is None) == (of_expected is None)
        if of_found is not None and of_expected is not None:
            np.testing.assert_array_equal(of_found, of_expected)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_that_join_leave_and_are_copied_give_the_same_bits(
    translators: list[OnnxRuntime], data: st.DataObject
) -> None:
    """Whatever the engine may do to rows, in any order, and what they hold of their sources in the end."""
    sources = st.lists(st.integers(6, 290), min_size=1, max_size=tiny.SOURCE_TOKENS)
    tokens = st.integers(6, 290)
    used, longest = 0, 0
    for _ in range(data.draw(st.integers(3, 12), label="turns")):
        kind = data.draw(st.sampled_from(["join", "copy", "leave", "step", "step"]))
        if kind == "join" and used < ROWS:
            joining = data.draw(st.lists(sources, min_size=1, max_size=ROWS - used))
            for runtime in translators:
                runtime.encode(range(used, used + len(joining)), joining)
            used += len(joining)
        elif kind == "copy" and 0 < used < ROWS:
            parents = data.draw(st.lists(st.integers(0, used - 1), min_size=1, max_size=ROWS - used))
            for runtime in translators:
                runtime.copy([Move(parent, used + at) for at, parent in enumerate(parents)])
            used += len(parents)
        elif kind == "leave" and used > 1:
            hole = data.draw(st.integers(0, used - 2))
            used -= 1
            for runtime in translators:
                runtime.copy([Move(used, hole)])
        elif used and longest < tiny.TARGET_TOKENS:
            fed = data.draw(st.lists(tokens, min_size=used, max_size=used))
            asked = {name: data.draw(st.booleans()) for name in ("with_logits", "with_attention")}
            assert_same([runtime.step(fed, **asked) for runtime in translators])
            longest += 1
    for row in range(used):
        for expected, found in zip(*(runtime.encoded(row) for runtime in translators), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_what_rows_have_in_common_stays_where_they_are_copied(translators: list[OnnxRuntime]) -> None:
    """Forks of a text go on by themselves, and one takes another's place with all but its last tokens kept."""
    for runtime in translators:
        runtime.encode([0], [[tiny.DE, 40, 50, tiny.EOS]])
    assert_same([runtime.step([tiny.BOS]) for runtime in translators])
    for runtime in translators:
        runtime.copy([Move(0, 1), Move(0, 2)])
    for token in range(60, 63):
        assert_same([runtime.step([token, token + 100, token + 200]) for runtime in translators])
    for runtime in translators:
        runtime.copy([Move(0, 2, kept=1)])
        runtime.copy([Move(1, 0, kept=1)])
    assert_same([runtime.step([70, 71, 72], with_attention=True) for runtime in translators])


def test_prompts_come_from_the_staging_cache(writer: LoadedBundle) -> None:
    runtimes = [writing(writer, device) for device in (CPU, RESIDENT)]
    random = np.random.default_rng(3)
    for runtime in runtimes:
        runtime.warm_up()
    for row, length in enumerate((11, 0, 3)):
        prompt = random.integers(6, 250, length).tolist()
        for runtime in runtimes:
            for begin in range(0, length, 8):
                runtime.prefill(prompt[begin : begin + 8], begin)
            runtime.admit(row, length)
        assert_same([runtime.step([9] * (row + 1)) for runtime in runtimes])
    for runtime in runtimes:
        runtime.copy([Move(2, 0)])
    assert_same([runtime.step([9, 8], with_logits=True) for runtime in runtimes])


class Encoding(OnnxRuntime):
    """Notes how many tokens it encodes at one time, of how many sources."""

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """As ``OnnxRuntime`` says."""
        self.encoded_tokens = sum(map(len, sources)), len(rows)
        super().encode(rows, sources)


def test_a_device_is_warmed_up_with_as_many_tokens_as_join_together(translator: LoadedBundle) -> None:
    """An arena that grows with each longer source than before would be cut to pieces; the processor has no such."""
    for device, expected in ((RESIDENT, (ROWS * tiny.SOURCE_TOKENS, ROWS)), (CPU, (8, 1))):
        runtime = translating(translator, device, Encoding)
        assert isinstance(runtime, Encoding)
        runtime.warm_up()
        assert runtime.encoded_tokens == expected


@dataclass
class Asked:
    """A request, and its end."""

    ids: Sequence[int]
    options: DecodingOptions
    outcomes: list[Outcome] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def request(self) -> Request:
        def reply(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            self.ended.set()

        return Request(self.ids, self.options, reply)

    def answers(self) -> list[tuple[list[int], float]]:
        assert self.ended.wait(PATIENCE)
        (outcome,) = self.outcomes
        assert isinstance(outcome, Completion)
        return [(answer.token_ids, answer.rank_score) for answer in outcome.answers]


KINDS = (
    DecodingOptions(max_length=12),
    DecodingOptions(max_length=14, beam_size=4, num_hypotheses=3),
    DecodingOptions(max_length=10, sampling=SamplingOptions(temperature=0.8, top_k=9, seed=5)),
    DecodingOptions(max_length=16, repetition_penalty=1.3, min_length=4),
    DecodingOptions(max_length=8, beam_size=2, no_repeat_ngram_size=2, coverage_penalty=0.3),
)


def decoded(engine: Engine | PromptEngine, asked: Sequence[Asked]) -> list[list[tuple[list[int], float]]]:
    """All answers, of requests that come while others run: six rows are fewer than they need together."""
    engine.start()
    for one in asked:
        engine.submit(one.request())
    answers = [one.answers() for one in asked]
    engine.stop(PATIENCE)
    return answers


def requests() -> list[Asked]:
    random = np.random.default_rng(7)
    return [
        Asked([tiny.BOS, *random.integers(6, 250, random.integers(1, 9)).tolist()], KINDS[number % len(KINDS)])
        for number in range(20)
    ]


def test_an_engine_on_a_device_answers_as_one_on_the_host(translator: LoadedBundle) -> None:
    """Greedy, beams, samples and what reads the logits, through joins, moves and leaves."""
    expected, found = (
        decoded(
            Engine(
                [translating(translator, device)], bos=tiny.BOS, eos=tiny.EOS, max_waiting=99, max_waiting_tokens=9999
            ),
            requests(),
        )
        for device in (CPU, RESIDENT)
    )
    assert [[ids for ids, _ in answers] for answers in found] == [[ids for ids, _ in answers] for answers in expected]
    for of_found, of_expected in zip(found, expected, strict=True):
        np.testing.assert_allclose([s for _, s in of_found], [s for _, s in of_expected], atol=1e-5)


def test_a_prompt_engine_on_a_device_answers_as_one_on_the_host(writer: LoadedBundle) -> None:
    kinds = [asked for asked in requests() if not asked.options.coverage_penalty]
    expected, found = (
        decoded(
            PromptEngine([writing(writer, device)], eos=tiny.EOS, max_waiting=99, max_waiting_tokens=9999),
            [Asked(asked.ids, asked.options) for asked in kinds],
        )
        for device in (CPU, RESIDENT)
    )
    assert [[ids for ids, _ in answers] for answers in found] == [[ids for ids, _ in answers] for answers in expected]
