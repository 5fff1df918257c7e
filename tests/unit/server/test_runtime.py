"""The runtime against a plain decode: one request, no padding rows, fresh caches passed in and out at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.packing import pack
from dragoman_server.rows import Move, row_buckets
from dragoman_server.runtime import OnnxRuntime
from tests.unit.server import tiny

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


def make(bundle: LoadedBundle, max_rows: int, **options: Any) -> OnnxRuntime:
    manifest = bundle.manifest
    return OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=max_rows,
        **options,
    )


def plain(bundle: LoadedBundle, source: Sequence[int], tokens: Sequence[int]) -> Floats:
    """The candidates' scores after each of ``tokens``: (steps, top_k)."""
    # Without the fusion that the runtime leaves out: it rounds otherwise.
    encoder, decoder = (
        ort.InferenceSession(path, disabled_optimizers=["SkipLayerNormFusion"])
        for path in (bundle.encoder, bundle.decoder)
    )
    cross, last = encoder.run(["cross", "cross_last"], pack([source]).feeds)
    kinds = [f"{kind}_{layer}" for layer in range(tiny.LAYERS) for kind in ("key", "value")]
    encoded = {f"cross_{kind}": cache[None] for kind, cache in zip(kinds, cross, strict=True)}
    encoded |= {f"cross_last_{kind}": one for kind, one in zip(kinds, last, strict=True)}
    caches = {
        port.name: np.zeros((1, tiny.HEADS, tiny.TARGET_TOKENS, tiny.HEAD_DIM), np.float32)
        for port in decoder.get_inputs()
        if port.name.startswith("past_")
    }
    scores = []
    for step, token in enumerate(tokens):
        feed = {
            "input_ids": np.array([[token]]),
            "lengths": np.array([step], np.int32),
            "total_length": np.array(step + 1, np.int32),
            "cross_lengths": np.array([len(source) - 1], np.int32),
            "cross_total": np.array(len(source), np.int32),
        }
        outputs = [output.name for output in decoder.get_outputs()]
        result = dict(zip(outputs, decoder.run(outputs, feed | caches | encoded), strict=True))
        caches = {name: result[name.replace("past", "present")] for name in caches}
        scores.append(result["top_log_probs"][0])
    return np.array(scores)


def sources(count: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [
        [tiny.DE, *random.integers(6, 290, random.integers(1, tiny.SOURCE_TOKENS - 1)).tolist(), tiny.EOS]
        for _ in range(count)
    ]


def test_buckets_grow_slowly_up_to_the_last_row() -> None:
    assert row_buckets(1) == [1]
    assert row_buckets(5) == [1, 2, 3, 4, 5]
    assert row_buckets(24) == [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
    assert row_buckets(98)[-5:] == [84, 88, 92, 96, 98]
    assert row_buckets(256)[-3:] == [240, 248, 256]


def test_rows_that_come_move_and_go_keep_their_results(bundle: LoadedBundle) -> None:
    """Five rows in a bucket of six, of which two leave, and one joins in mid-course."""
    runtime = make(bundle, 11)
    runtime.warm_up()
    texts = sources(6)
    random = np.random.default_rng(1)
    fed: list[list[int]] = [[] for _ in texts]
    got: list[list[Floats]] = [[] for _ in texts]
    rows = [0, 1, 2, 3, 4]  # rows[i] is the text of row i

    def step(count: int) -> None:
        for _ in range(count):
            tokens = [tiny.BOS if not fed[text] else int(random.integers(6, 290)) for text in rows]
            scores = runtime.step(tokens).top_log_probs
            assert scores.shape == (len(rows), tiny.TOP_K)
            for text, token, score in zip(rows, tokens, scores.copy(), strict=True):
                fed[text].append(token)
                got[text].append(score)

    runtime.encode(rows, texts[:5])
    step(4)
    runtime.copy([Move(4, 1)])
    rows = [0, 4, 2, 3]
    step(3)
    runtime.copy([Move(3, 0)])
    rows = [3, 4, 2]
    step(2)
    runtime.encode([3], texts[5:])
    rows = [3, 4, 2, 5]
    step(5)
    assert [len(steps) for steps in fed] == [7, 4, 14, 14, 14, 5]
    for text, source in enumerate(texts):
        np.testing.assert_allclose(np.array(got[text]), plain(bundle, source, fed[text]), atol=1e-5)


def test_candidates_are_the_best_of_the_vocabulary(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 1)
    runtime.encode([0], sources(1))
    output = runtime.step([tiny.BOS])
    assert output.top_ids.dtype == np.int64
    assert output.top_ids.shape == (1, tiny.TOP_K)
    assert (np.diff(output.top_log_probs) <= 0).all()
    assert output.top_ids.min() >= tiny.EOS


def test_a_row_that_is_encoded_again_starts_over(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 2)
    long, short = sorted(sources(2), key=len, reverse=True)
    runtime.encode([0], [long])
    for token in (tiny.BOS, 50, 60):
        runtime.step([token])
    runtime.encode([0], [short])
    scores = runtime.step([tiny.BOS]).top_log_probs.copy()
    np.testing.assert_allclose(scores, plain(bundle, short, [tiny.BOS]), atol=1e-5)


def test_a_full_row_that_has_left_does_no_harm_in_its_bucket(bundle: LoadedBundle) -> None:
    runtime, texts = make(bundle, 6), sources(6)
    runtime.encode(range(6), texts)
    for _ in range(tiny.TARGET_TOKENS):
        runtime.step([9] * 6)
    runtime.encode(range(5), texts[:5])
    scores = runtime.step([tiny.BOS] * 5).top_log_probs  # the sixth row is stepped too
    for row, source in enumerate(texts[:5]):
        np.testing.assert_allclose(scores[row : row + 1], plain(bundle, source, [tiny.BOS]), atol=1e-5)


def test_limits_are_kept(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 2)
    assert (runtime.max_rows, runtime.source_capacity, runtime.target_capacity) == (2, 32, 24)
    assert runtime.provider == "CPUExecutionProvider"
    with pytest.raises(ValueError, match="33 tokens: 1 to 32"):
        runtime.encode([0], [[7] * 33])
    with pytest.raises(ValueError, match="3 rows: 1 to 2"):
        runtime.step([2, 2, 2])
    with pytest.raises(ValueError, match="max_rows = 0"):
        make(bundle, 0)
    runtime.encode([0], [[4, 7, 3]])
    for _ in range(24):
        runtime.step([7])
    with pytest.raises(ValueError, match="25 target tokens: at most 24"):
        runtime.step([7])


def test_copies_share_the_source_and_go_on_by_themselves(bundle: LoadedBundle) -> None:
    """Rows of two requests are copied several at a time, within a request and over another's row."""
    runtime, texts = make(bundle, 7), sources(2, seed=4)
    random = np.random.default_rng(5)
    runtime.encode([0, 1], texts)
    owners, fed = [0, 1], [[tiny.BOS], [tiny.BOS]]
    runtime.step([tiny.BOS, tiny.BOS])

    def check() -> None:
        tokens = random.integers(6, 290, len(fed)).tolist()
        for history, token in zip(fed, tokens, strict=True):
            history.append(token)
        scores = runtime.step(tokens).top_log_probs
        for row, (owner, history) in enumerate(zip(owners, fed, strict=True)):
            np.testing.assert_allclose(scores[row], plain(bundle, texts[owner], history)[-1], atol=1e-5)

    def copy(moves: dict[int, int], kept: int = 0) -> None:
        runtime.copy([Move(source, target, kept) for target, source in moves.items()])
        for target, source in moves.items():
            if target == len(fed):
                owners.append(0)
                fed.append([])
            owners[target], fed[target] = owners[source], list(fed[source])

    copy({2: 0, 3: 1, 4: 0})
    check()
    copy({2: 4}, kept=1)  # both began alike
    check()
    copy({2: 4, 3: 0}, kept=1)  # row 3 changes hands, so it keeps nothing
    check()
    del owners[2:], fed[2:]
    check()  # rows 2 and 3 are padding now, or nothing at all
    copy({2: 0, 3: 1})
    check()
    copy({4: 0, 5: 1})
    check()
    del owners[5:], fed[5:]
    check()  # five rows run in a bucket of six, and the sixth's caches do not stay as they were
    copy({5: 1})
    check()


def test_logits_come_where_they_are_asked_for_and_change_nothing_else(bundle: LoadedBundle) -> None:
    asked, plainly, texts = make(bundle, 5), make(bundle, 5), sources(5)
    for runtime in (asked, plainly):
        runtime.encode(range(5), texts)
    for step in range(4):
        tokens = [tiny.BOS if step == 0 else 40 + step] * 5
        output, expected = asked.step(tokens, with_logits=step % 2 == 1), plainly.step(tokens)
        np.testing.assert_array_equal(output.top_log_probs, expected.top_log_probs)
        np.testing.assert_array_equal(output.top_ids, expected.top_ids)
        assert expected.logits is None
        if step % 2 == 0:
            assert output.logits is None
            continue
        assert output.logits is not None
        assert output.logits.shape == (5, bundle.manifest.dimensions.vocabulary)
        log_probs = output.logits - np.log(np.exp(output.logits).sum(axis=1, keepdims=True))
        best = np.take_along_axis(log_probs, output.top_ids, axis=1)
        np.testing.assert_allclose(best, output.top_log_probs, atol=1e-5)
    assert asked.top_k == tiny.TOP_K


def test_attention_is_a_distribution_over_each_rows_own_source(bundle: LoadedBundle) -> None:
    runtime, texts = make(bundle, 4), sources(3)
    runtime.encode([0, 1, 2], texts)
    plain = runtime.step([tiny.BOS] * 3)
    assert plain.attention is None
    attention = runtime.step(plain.top_ids[:, 0], with_attention=True).attention
    assert attention is not None
    assert attention.shape == (3, max(map(len, texts)))
    for weights, text in zip(attention, texts, strict=True):
        assert (weights[: len(text)] > 0).all()
        assert not weights[len(text) :].any()
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


def test_attention_is_as_wide_as_the_longest_source_of_each_step(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 2)
    for length in (3, 9, 4):
        runtime.encode([0, 1], [[5] * length, [6] * 2])
        for _ in range(2):
            attention = runtime.step([tiny.BOS] * 2, with_attention=True).attention
            assert attention is not None
            assert attention.shape == (2, length)


def test_a_source_alone_is_packed_as_it_is_beside_another() -> None:
    source, other = [7, 5, 9, 3], [8, 4, 6, 3]
    alone, both = pack([source]), pack([source, other])
    for name, expected in both.feeds.items():
        part = expected[: len(alone.feeds[name])]
        np.testing.assert_array_equal(alone.feeds[name], part)
        assert alone.feeds[name].dtype == part.dtype
    assert (alone.begins.tolist(), alone.lengths.tolist()) == ([0], [4])
    assert {name: array.shape for name, array in alone.feeds.items()} == {
        "input_ids": (4,),
        "positions": (4,),
        "padded_index": (1, 4),
        "attention_mask": (1, 4),
        "packed_index": (4,),
        "last_index": (1,),
    }
