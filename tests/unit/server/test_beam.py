"""The searches against slow, obvious ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.batch import Batch
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import n_best
from dragoman_server.request import Request
from dragoman_server.runtime import OnnxRuntime, Runtime
from tests.unit.server import reference, tiny
from tests.unit.server.decoding_requests import decoding_options
from tests.unit.server.onnx_reference import OnnxReference
from tests.unit.server.reference import Found
from tests.unit.server.toy_model import BOS, EOS, ToyRuntime, toy

SOURCE = (9, 5)


def run(runtime: Runtime, source: Sequence[int], options: DecodingOptions) -> list[Answer]:
    """One request alone, as a lane decodes it."""
    batch = Batch(runtime, eos=EOS, source_capacity=runtime.source_capacity)
    request = Request(source, options, lambda outcome: None)
    runtime.encode([batch.join(request, BOS)], [source])
    while batch.rows.used:
        assert batch.rows.used <= options.width
        output = runtime.step(batch.tokens, with_logits=batch.needs_logits, with_attention=batch.needs_attention)
        advance = batch.advance(output)
        assert not advance.failed
        assert advance.finished == ([] if batch.rows.used else [request])
        for moves in (*advance.copies, *batch.settle()):
            runtime.copy(moves)
    return n_best(request.answers, max(options.num_hypotheses, options.alternatives))


def assert_equal(answers: Sequence[Answer], expected: Sequence[Found], options: DecodingOptions, atol: float) -> None:
    assert [tuple(answer.token_ids) for answer in answers] == [found.tokens for found in expected]
    assert [answer.finish_reason for answer in answers] == [found.reason for found in expected]
    for answer, found in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.log_probs, found.log_probs, atol=atol)
        assert answer.rank_score == pytest.approx(found.rank(options), abs=atol)
        if options.with_attention:
            assert answer.attention is not None
            np.testing.assert_allclose(answer.attention, found.attention(), atol=1e-7)
        else:
            assert answer.attention is None


@settings(max_examples=300, deadline=None)
@given(decoding_options(widest=8), st.integers(0, 50))
@example(DecodingOptions(max_length=9, beam_size=16, num_hypotheses=16), 1)
@example(DecodingOptions(max_length=9, beam_size=4, num_hypotheses=4, early_stopping=True, patience=8), 2)
@example(
    DecodingOptions(
        max_length=6, beam_size=7, num_hypotheses=5, patience=2, no_repeat_ngram_size=1, allowed=(4, 5, 9, 6, 12)
    ),
    0,
)
def test_every_kind_of_decoding_equals_its_reference(options: DecodingOptions, number: int) -> None:
    source = (*SOURCE, number)
    answers = run(ToyRuntime(16), source, options)
    assert_equal(answers, reference.decode(toy(source, options), options), options, atol=1e-5)


@pytest.mark.parametrize("beam_size", [2, 3, 4, 6, 9, 16])
def test_beam_search_on_many_models(compiled: Path, beam_size: int) -> None:
    for number in range(25):
        options = DecodingOptions(max_length=8, beam_size=beam_size, num_hypotheses=beam_size, patience=1 + number % 2)
        expected = reference.beam_search(toy((*SOURCE, number)), options)
        for kernels in (None, compiled):
            answers = run(ToyRuntime(16, kernels), (*SOURCE, number), options)
            assert_equal(answers, expected, options, atol=1e-5)


def test_coverage_is_added_to_the_rank_and_changes_who_is_best() -> None:
    plain = DecodingOptions(max_length=8, beam_size=4, num_hypotheses=4)
    covering = dataclasses.replace(plain, coverage_penalty=0.5, with_attention=True)
    changed = 0
    for number in range(30):
        before, after = (run(ToyRuntime(4), (*SOURCE, 4, number), options) for options in (plain, covering))
        changed += before[0].token_ids != after[0].token_ids
        ranks = {tuple(answer.token_ids): answer.rank_score for answer in before}
        for answer in after:
            if tuple(answer.token_ids) in ranks:
                assert answer.attention is not None
                covered = np.minimum(answer.attention.sum(axis=0), 1)
                rank = ranks[tuple(answer.token_ids)] + 0.5 * float(np.log(covered).sum())
                assert answer.rank_score == pytest.approx(rank, abs=1e-5)
    assert 0 < changed < 30


def test_a_forced_target_as_long_as_the_caches_is_scored() -> None:
    runtime = ToyRuntime(1)
    prefix = (*np.random.default_rng(3).integers(4, 24, runtime.target_capacity - 1).tolist(), EOS)
    options = DecodingOptions(max_length=len(prefix), prefix=prefix, forced=True)
    (answer,) = run(runtime, SOURCE, options)
    model = toy(SOURCE)
    expected = [float(model(prefix[:step])[token]) for step, token in enumerate(prefix)]
    assert answer.token_ids == list(prefix[:-1])
    assert answer.finish_reason is FinishReason.STOP
    assert answer.log_probs == pytest.approx(expected, abs=1e-5)
    assert answer.rank_score == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_attention_is_asked_for_only_where_somebody_needs_it() -> None:
    def with_attention(**options: object) -> int:
        runtime = ToyRuntime(4)
        run(runtime, SOURCE, DecodingOptions(max_length=8, **options))  # type: ignore[arg-type]
        return runtime.steps_with_attention

    assert with_attention(beam_size=3) == 0
    assert with_attention(beam_size=3, coverage_penalty=0.1) > 0
    assert with_attention(with_attention=True) > 0


def test_a_step_reads_logits_only_where_it_must() -> None:
    def with_logits(**options: object) -> int:
        runtime = ToyRuntime(16)
        run(runtime, SOURCE, DecodingOptions(max_length=8, **options))  # type: ignore[arg-type]
        return runtime.steps_with_logits

    assert with_logits(beam_size=3, num_hypotheses=3) == 0  # 2 x 3 candidates, as many as the graph gives
    assert with_logits(alternatives=6) == 0
    assert with_logits(beam_size=4) > 0
    assert with_logits(prefix=(8, 9), beam_size=2) == 2
    assert with_logits(min_length=3) == 3
    assert with_logits(sampling=SamplingOptions(seed=1, top_k=6)) == 0
    assert with_logits(sampling=SamplingOptions(seed=1)) > 0
    assert with_logits(repetition_penalty=1.2) > 0


def test_a_sample_is_the_same_from_the_candidates_and_from_the_logits() -> None:
    for seed in range(20):
        options = DecodingOptions(max_length=9, num_hypotheses=3, sampling=SamplingOptions(seed=seed, top_k=4))
        few, all_ = ToyRuntime(4), ToyRuntime(4)
        all_.top_k = 3  # fewer than asked for: the whole vocabulary has to be read
        assert [a.token_ids for a in run(few, SOURCE, options)] == [a.token_ids for a in run(all_, SOURCE, options)]
        assert few.steps_with_logits == 0 < all_.steps_with_logits


def test_the_first_samples_do_not_depend_on_how_many_there_are() -> None:
    def texts(count: int) -> set[tuple[int, ...]]:
        options = DecodingOptions(max_length=9, num_hypotheses=count, sampling=SamplingOptions(seed=5))
        return {tuple(answer.token_ids) for answer in run(ToyRuntime(8), SOURCE, options)}

    assert texts(1) < texts(3) < texts(8)


def test_a_wide_enough_beam_finds_the_best_of_all() -> None:
    """Against every possible target: with a beam as wide as the whole tree, beam search is exact."""
    model, length = toy(SOURCE), 2
    options = DecodingOptions(max_length=length, beam_size=24, num_hypotheses=5, patience=8)
    everything = [Found((), (float(model(())[EOS]),))]
    for first in set(range(24)) - {EOS}:
        score = float(model(())[first])
        following = model((first,))
        everything += [
            Found((first,) if second == EOS else (first, second), (score, float(following[second])))
            for second in range(24)
        ]
    best = sorted(everything, key=lambda found: -found.rank(options))[:5]
    answers = run(ToyRuntime(24), SOURCE, options)
    assert [tuple(answer.token_ids) for answer in answers] == [found.tokens for found in best]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(max_length=20),
        DecodingOptions(max_length=20, min_length=8, banned=((50,), (60, 61))),
        DecodingOptions(max_length=20, beam_size=4, num_hypotheses=4),
        DecodingOptions(max_length=20, beam_size=4, prefix=(40, 41, 42), patience=2),
        DecodingOptions(max_length=15, beam_size=12, num_hypotheses=3, early_stopping=True, min_length=4),
        DecodingOptions(max_length=20, alternatives=6),
        DecodingOptions(max_length=20, num_hypotheses=5, sampling=SamplingOptions(seed=3, temperature=1.3)),
        DecodingOptions(max_length=20, num_hypotheses=5, sampling=SamplingOptions(seed=4, top_k=9, top_p=0.8)),
    ],
)
def test_over_real_graphs_and_shared_caches(bundle: LoadedBundle, options: DecodingOptions) -> None:
    manifest = bundle.manifest
    runtime = OnnxRuntime(
        bundle.encoder, bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=13
    )
    random = np.random.default_rng(2)
    for length in (1, 9, 25):
        source = [tiny.DE, *random.integers(6, 290, length).tolist(), tiny.EOS]
        expected = reference.decode(OnnxReference(bundle, source), options)
        assert_equal(run(runtime, source, options), expected, options, atol=1e-4)
