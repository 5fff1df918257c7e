"""A model that gives NaN or infinity for one row: that request ends with INTERNAL, and nobody else is touched."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.engine import DecodingEngine, Engine
from dragoman_server.errors import Internal
from dragoman_server.explaining.graph import ExplainGraph, ExplainInput
from dragoman_server.pass_engine import PassEngine
from dragoman_server.pass_runtime import EncoderInput, OnnxPassRuntime
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.request import Completion
from dragoman_server.runtime import OnnxRuntime
from tests.unit.server import tiny, tiny_decoder, tiny_encoder, tiny_explain
from tests.unit.server.doctoring import poison_logits
from tests.unit.server.fake_passes import Reader
from tests.unit.server.fake_runtime import NAN as NAN_FIRST
from tests.unit.server.fake_runtime import PATIENCE, Caller, FakeRuntime, Start, assert_empty, counting, submit

ROOT = Path(__file__).parents[3]
POISON = 77
"""The token that a doctored graph answers with what is no number."""
NOT_NUMBERS = [np.nan, np.inf, -np.inf]
KINDS = {
    "greedy": DecodingOptions(max_length=12),
    "filtered": DecodingOptions(max_length=12, repetition_penalty=1.3, min_length=3),
    "beam": DecodingOptions(max_length=12, beam_size=3, num_hypotheses=3),
    "sampled": DecodingOptions(max_length=12, num_hypotheses=2, sampling=SamplingOptions(seed=5, top_k=8)),
    "nucleus": DecodingOptions(max_length=12, sampling=SamplingOptions(seed=6, top_p=0.9)),
}


@contextmanager
def running(engine: DecodingEngine) -> Iterator[DecodingEngine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(PATIENCE)


def outcomes(engine: DecodingEngine, callers: Sequence[Caller]) -> list[Completion | Internal]:
    submit(engine, *callers)  # type: ignore[arg-type]
    results = [caller.result() for caller in callers]
    assert all(isinstance(result, (Completion, Internal)) for result in results)
    return [result for result in results if isinstance(result, (Completion, Internal))]


def answers(outcome: Completion | Internal) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    assert isinstance(outcome, Completion)
    return [(tuple(answer.token_ids), tuple(answer.log_probs)) for answer in outcome.answers]


def nonfinite_rows(engine: DecodingEngine) -> int:
    return sum(lane.meter.nonfinite_rows for lane in engine.state().lanes)


def doctored(bundle: LoadedBundle, folder: Path, value: float) -> LoadedBundle:
    """The bundle, whose decoder answers ``POISON`` with ``value`` instead of logits."""
    shutil.copytree(bundle.decoder.parent, folder)
    poisoned = poison_logits(bundle.decoder, folder / "decoder.onnx", POISON, value)
    return dataclasses.replace(bundle, graphs={**bundle.graphs, "decoder": poisoned})


def translator_runtime(bundle: LoadedBundle, max_rows: int) -> OnnxRuntime:
    manifest = bundle.manifest
    return OnnxRuntime(
        bundle.encoder, bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows
    )


def translator(bundle: LoadedBundle, max_rows: int) -> Engine:
    ids = bundle.manifest.special_ids
    return Engine(
        [translator_runtime(bundle, max_rows)], bos=ids.bos, eos=ids.eos, max_waiting=100, max_waiting_tokens=10_000
    )


def generator(bundle: LoadedBundle, max_rows: int) -> PromptEngine:
    manifest = bundle.manifest
    runtime = OnnxPromptRuntime(
        bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows, prefill_chunk=4
    )
    return PromptEngine([runtime], eos=manifest.special_ids.eos, max_waiting=100, max_waiting_tokens=10_000)


@pytest.fixture(scope="module")
def translating(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny_decoder.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


def texts(begin: int, end: int, count: int) -> list[list[int]]:
    """Sources, or prompts, of many lengths, between two special tokens; none has ``POISON``."""
    random = np.random.default_rng(7)
    return [
        [begin, *(token for token in random.integers(6, 280, number % 17 + 2).tolist() if token != POISON), end]
        for number in range(count)
    ]


def assert_same(found: Completion | Internal, alone: Completion | Internal) -> None:
    """The same tokens, with the same log-probabilities up to what float32 rounds in another batch."""
    for (ids, log_probs), (ids_alone, log_probs_alone) in zip(answers(found), answers(alone), strict=True):
        assert POISON not in ids_alone
        assert ids == ids_alone
        np.testing.assert_allclose(log_probs, log_probs_alone, atol=1e-4)


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_translation_that_has_no_numbers_ends_alone(translating: LoadedBundle, tmp_path: Path, value: float) -> None:
    sources = texts(tiny.DE, tiny.EOS, len(KINDS))
    sound = [Caller(source, options) for source, options in zip(sources, KINDS.values(), strict=True)]
    with running(translator(translating, 24)) as engine:
        alone = [outcomes(engine, [caller])[0] for caller in sound]
    with running(translator(doctored(translating, tmp_path / "int8", value), 24)) as engine:
        for _ in range(2):  # the second time in rows that the first has left
            beside = [Caller(caller.source, caller.options) for caller in sound]
            poisoned = [
                Caller(source, dataclasses.replace(options, prefix=(30, POISON)))
                for source, options in zip(sources, KINDS.values(), strict=True)
            ]
            found = outcomes(engine, [caller for pair in zip(beside, poisoned, strict=True) for caller in pair])
            assert all(isinstance(outcome, Internal) and len(outcome.incident) == 32 for outcome in found[1::2])
            for outcome, expected in zip(found[::2], alone, strict=True):
                assert_same(outcome, expected)
        assert nonfinite_rows(engine) >= 2 * len(KINDS)
        assert_empty(engine)


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_text_that_has_no_numbers_ends_alone(generating: LoadedBundle, tmp_path: Path, value: float) -> None:
    prompts = texts(tiny_decoder.BOS, 40, len(KINDS))
    sound = [Caller(prompt, options) for prompt, options in zip(prompts, KINDS.values(), strict=True)]
    with running(generator(generating, 24)) as engine:
        alone = [outcomes(engine, [caller])[0] for caller in sound]
    with running(generator(doctored(generating, tmp_path / "int8", value), 24)) as engine:
        for _ in range(2):
            beside = [Caller(caller.source, caller.options) for caller in sound]
            poisoned = [Caller([*caller.source, POISON], caller.options) for caller in sound]
            found = outcomes(engine, [caller for pair in zip(beside, poisoned, strict=True) for caller in pair])
            assert all(isinstance(outcome, Internal) for outcome in found[1::2])
            for outcome, expected in zip(found[::2], alone, strict=True):
                assert_same(outcome, expected)
        assert nonfinite_rows(engine) == 2 * len(KINDS)
        assert_empty(engine)


def without_numbers(graph: Path, target: Path) -> Path:
    """The graph at ``graph``, in which ``POISON`` is embedded as NaN."""
    model = onnx.load(graph)
    embedding = model.graph.initializer[0]
    weights = numpy_helper.to_array(embedding).copy()  # (vocabulary, d_model)
    weights[POISON] = np.nan
    embedding.CopyFrom(numpy_helper.from_array(weights, embedding.name))
    onnx.save(model, target)
    return target


def test_numbers_that_are_none_stay_in_no_row(translating: LoadedBundle, tmp_path: Path) -> None:
    """NaN comes from the encoder, fills the caches of all rows, and those are taken by shorter sources."""
    sources = texts(tiny.DE, tiny.EOS, 12)
    options = DecodingOptions(max_length=12)
    with running(translator(translating, 12)) as engine:
        alone = [outcomes(engine, [Caller(source, options)])[0] for source in sources]
    graphs = {**translating.graphs, "encoder": without_numbers(translating.encoder, tmp_path / "encoder.onnx")}
    with running(translator(dataclasses.replace(translating, graphs=graphs), 12)) as engine:
        longest = [tiny.DE, *[POISON] * (tiny.SOURCE_TOKENS - 2), tiny.EOS]
        assert all(isinstance(one, Internal) for one in outcomes(engine, [Caller(longest, options) for _ in sources]))
        assert nonfinite_rows(engine) == 12
        for outcome, expected in zip(outcomes(engine, [Caller(s, options) for s in sources]), alone, strict=True):
            assert_same(outcome, expected)
        assert nonfinite_rows(engine) == 12


def test_numbers_that_are_none_reach_no_source_beside(translating: LoadedBundle, tmp_path: Path) -> None:
    """The broken source comes first and is the longest, so all others are padded."""
    sources = texts(tiny.DE, tiny.EOS, 6)
    longest = [*[POISON] * (tiny.SOURCE_TOKENS - 1), tiny.EOS]
    sound = translator_runtime(translating, 8)
    broken = {**translating.graphs, "encoder": without_numbers(translating.encoder, tmp_path / "encoder.onnx")}
    doctored = translator_runtime(dataclasses.replace(translating, graphs=broken), 8)
    sound.encode(range(6), sources)
    doctored.encode(range(7), [longest, *sources])
    assert all(np.isnan(values).all() for values in doctored.encoded(0))
    for row in range(6):
        for alone, beside in zip(sound.encoded(row), doctored.encoded(row + 1), strict=True):
            np.testing.assert_allclose(beside, alone, atol=1e-5)


def test_a_text_that_an_encoder_has_no_numbers_for_ends_alone(tmp_path: Path) -> None:
    bundle = load_bundle(tiny_encoder.write_bundle(tmp_path / "1"), "fp32")
    broken = without_numbers(bundle.encoder, tmp_path / "encoder.onnx")
    dimensions, limits = bundle.manifest.dimensions, bundle.manifest.limits
    sound = OnnxPassRuntime(bundle.encoder, dimensions=dimensions, limits=limits, max_rows=8)
    doctored = OnnxPassRuntime(broken, dimensions=dimensions, limits=limits, max_rows=8)
    short = texts(tiny_encoder.CLS, tiny_encoder.SEP, 7)
    longest = [tiny_encoder.CLS, *[POISON] * (tiny_encoder.SOURCE_TOKENS - 2), tiny_encoder.SEP]
    alone = [sound.run([EncoderInput(ids)])[0] for ids in short]
    in_one_pass = doctored.run([EncoderInput(ids) for ids in (longest, *short)])
    assert np.isnan(in_one_pass[0].states).any()
    for found, expected in zip(in_one_pass[1:], alone, strict=True):
        np.testing.assert_allclose(found.states, expected.states, atol=1e-5)
    engine = PassEngine([doctored], max_waiting=100, max_waiting_tokens=10_000)
    engine.start()
    readers = [Reader(ids) for ids in (longest, *short)]
    for reader in readers:
        engine.submit(reader.request)
    assert isinstance(readers[0].result(), Internal)
    for reader, expected in zip(readers[1:], alone, strict=True):
        np.testing.assert_allclose(reader.completion().output.states, expected.states, atol=1e-5)
    assert [lane.meter.nonfinite_rows for lane in engine.state().lanes] == [1]
    engine.stop(PATIENCE)


def test_attention_that_is_no_number_is_told_to_nobody(tmp_path: Path) -> None:
    sound = tmp_path / "explain.onnx"
    onnx.save(tiny_explain.build_explain(300, 1, 0), sound)
    graph = ExplainGraph(without_numbers(sound, tmp_path / "broken.onnx"))
    assert len(graph.run([ExplainInput(source=[5, 6, 7])])) == 1
    with pytest.raises(ArithmeticError):
        graph.run([ExplainInput(source=[5, POISON, 7])])


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_the_shipped_translator_goes_on_to_the_bit(tmp_path: Path, value: float) -> None:
    bundle = load_bundle(ROOT / "models" / "deu-eng" / "1", "int8")
    ids = bundle.manifest.special_ids
    begin = bundle.manifest.languages[0].tag_id
    sources = texts(begin, ids.eos, len(KINDS))
    sound = [Caller(source, options) for source, options in zip(sources, KINDS.values(), strict=True)]
    with running(translator(bundle, 16)) as engine:
        alone = [answers(outcomes(engine, [caller])[0]) for caller in sound]
    with running(translator(doctored(bundle, tmp_path / "int8", value), 16)) as engine:
        beside = [Caller(caller.source, caller.options) for caller in sound]
        poisoned = Caller(sources[0], DecodingOptions(max_length=12, prefix=(POISON,)))
        found = outcomes(engine, [*beside[:2], poisoned, *beside[2:]])
        assert isinstance(found.pop(2), Internal)
        assert [answers(outcome) for outcome in found] == alone
        assert nonfinite_rows(engine) == 1


def test_the_counter_counts_rows(start: Start) -> None:
    engine = start(FakeRuntime(4))
    callers = [counting(3), counting(3, NAN_FIRST), counting(4, 200), counting(5, NAN_FIRST)]
    submit(engine, *callers)
    assert [isinstance(caller.result(), Internal) for caller in callers] == [False, True, False, True]
    assert nonfinite_rows(engine) == 2
