"""The runtime of a decoder alone against a plain decode: one row, token by token, fresh caches passed in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.rows import Move
from tests.unit.server import tiny_decoder
from tests.unit.server.tiny import HEAD_DIM, HEADS

Floats = npt.NDArray[np.float32]
CHUNK = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny_decoder.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


@pytest.fixture(scope="module")
def runtime(bundle: LoadedBundle) -> OnnxPromptRuntime:
    return make(bundle, 6)


def make(bundle: LoadedBundle, max_rows: int, **options: Any) -> OnnxPromptRuntime:
    manifest = bundle.manifest
    options = {"prefill_chunk": CHUNK} | options
    return OnnxPromptRuntime(
        bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows, **options
    )


def plain(bundle: LoadedBundle, tokens: Sequence[int]) -> Floats:
    """The candidates' scores after each of ``tokens``: (steps, top_k)."""
    decoder = ort.InferenceSession(bundle.decoder, disabled_optimizers=["SkipLayerNormFusion"])
    shape = (1, HEADS, tiny_decoder.WINDOW, HEAD_DIM)
    caches = {port.name: np.zeros(shape, np.float32) for port in decoder.get_inputs() if "past" in port.name}
    scores = []
    for step, token in enumerate(tokens):
        feed = {
            "input_ids": np.array([[token]]),
            "lengths": np.array([step], np.int32),
            "total_length": np.array(step + 1, np.int32),
        }
        outputs = [output.name for output in decoder.get_outputs()]
        result = dict(zip(outputs, decoder.run(outputs, feed | caches), strict=True))
        caches = {name: result[name.replace("past", "present")] for name in caches}
        scores.append(result["top_log_probs"][0])
    return np.array(scores)


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[tiny_decoder.BOS, *random.integers(4, 280, random.integers(0, 20)).tolist()] for _ in range(count)]


def prefill(runtime: OnnxPromptRuntime, tokens: Sequence[int], sizes: Sequence[int]) -> None:
    begin = 0
    for size in sizes:
        runtime.prefill(tokens[begin : begin + size], begin)
        begin += size


def join(runtime: OnnxPromptRuntime, row: int, prompt: Sequence[int]) -> None:
    """As a lane does it: all but the last token, in whole chunks and a rest."""
    whole = len(prompt) - 1
    prefill(runtime, prompt, [min(CHUNK, whole - begin) for begin in range(0, whole, CHUNK)])
    runtime.admit(row, whole)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, CHUNK), max_size=6), st.data())
def test_a_prompt_is_the_same_in_chunks_of_any_size_and_token_by_token(
    bundle: LoadedBundle, runtime: OnnxPromptRuntime, sizes: list[int], data: st.DataObject
) -> None:
    prompt = data.draw(st.lists(st.integers(4, 280), min_size=sum(sizes) + 1, max_size=max(sum(sizes) + 3, 12)))
    prompt = prompt[: tiny_decoder.WINDOW]
    while sum(sizes) >= len(prompt):
        sizes.pop()
    prefill(runtime, prompt, sizes)
    runtime.admit(0, sum(sizes))
    expected = plain(bundle, prompt)
    for at in range(sum(sizes), len(prompt)):
        output = runtime.step([prompt[at]])
        np.testing.assert_allclose(output.top_log_probs[0], expected[at], atol=1e-5)


def test_the_most_likely_token_is_the_same_after_chunks_and_after_steps(runtime: OnnxPromptRuntime) -> None:
    for prompt in prompts(8, seed=3):
        join(runtime, 0, prompt)
        chunked = runtime.step(prompt[-1:]).top_ids[0, 0]
        runtime.admit(0, 0)
        for token in prompt:
            stepped = runtime.step([token]).top_ids[0, 0]
        assert chunked == stepped


def test_rows_that_come_move_and_go_keep_their_results(bundle: LoadedBundle) -> None:
    """Prompts are prefilled between the steps of rows that run, in a bucket of six for five."""
    runtime = make(bundle, 7)
    runtime.warm_up()
    texts = [*prompts(5), [tiny_decoder.BOS, *range(100, 113)]]
    random = np.random.default_rng(1)
    fed = [text[:-1] for text in texts]
    got: list[list[Floats]] = [[] for _ in texts]
    rows: list[int] = []  # rows[i] is the text of row i

    def step(count: int) -> None:
        for _ in range(count):
            fresh = [not got[text] for text in rows]
            tokens = [
                texts[text][-1] if first else int(random.integers(4, 280))
                for text, first in zip(rows, fresh, strict=True)
            ]
            scores = runtime.step(tokens).top_log_probs
            for text, token, score in zip(rows, tokens, scores.copy(), strict=True):
                fed[text].append(token)
                got[text].append(score)

    for text in range(5):
        join(runtime, text, texts[text])
        rows.append(text)
        step(2)
    runtime.copy([Move(4, 1)])
    rows = [0, 4, 2, 3]
    step(2)
    whole = len(texts[5]) - 1
    runtime.prefill(texts[5][: whole // 2], 0)
    step(1)  # the rows step on between two chunks
    runtime.prefill(texts[5][whole // 2 : whole], whole // 2)
    runtime.admit(4, whole)
    rows.append(5)
    step(3)
    for text, first in enumerate(texts):
        expected = plain(bundle, fed[text])[len(first) - 1 :] if got[text] else np.zeros(0)
        np.testing.assert_allclose(np.array(got[text]), expected, atol=1e-5)


def test_copies_share_the_prompt_and_go_on_by_themselves(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 5)
    prompt, other = [tiny_decoder.BOS, 40, 41, 42, 43], [tiny_decoder.BOS, 90]
    for row, text in enumerate((prompt, other)):
        join(runtime, row, text)
    runtime.step([prompt[-1], other[-1]])
    runtime.copy([Move(0, 2), Move(1, 3)])
    fed = [[*prompt, 50], [*other, 51], [*prompt, 52], [*other, 53]]
    runtime.step([50, 51, 52, 53])
    # Row 2 goes on from row 0: of their common prompt nothing is copied again. Row 3 changes hands.
    runtime.copy([Move(0, 2, kept=len(prompt)), Move(0, 3, kept=len(prompt))])
    fed[2], fed[3] = list(fed[0]), list(fed[0])
    for token in (60, 61):
        tokens = [token + row for row in range(4)]
        scores = runtime.step(tokens).top_log_probs
        for row, token_of_row in enumerate(tokens):
            fed[row].append(token_of_row)
            np.testing.assert_allclose(scores[row], plain(bundle, fed[row])[-1], atol=1e-5)


def test_a_full_row_that_has_left_does_no_harm_in_its_bucket(bundle: LoadedBundle) -> None:
    runtime, texts = make(bundle, 6), prompts(6, seed=2)
    for row in range(6):
        runtime.admit(row, 0)
    for _ in range(tiny_decoder.WINDOW):
        runtime.step([9] * 6)
    for row, text in enumerate(texts[:5]):
        join(runtime, row, text)
    scores = runtime.step([text[-1] for text in texts[:5]]).top_log_probs  # the sixth row is stepped too
    for row, text in enumerate(texts[:5]):
        np.testing.assert_allclose(scores[row], plain(bundle, text)[-1], atol=1e-5)


def test_logits_come_where_they_are_asked_for_and_change_nothing_else(bundle: LoadedBundle) -> None:
    asked, plainly = make(bundle, 3), make(bundle, 3)
    for runtime in (asked, plainly):
        for row, text in enumerate(prompts(3)):
            join(runtime, row, text)
    for step in range(4):
        output, expected = asked.step([40 + step] * 3, with_logits=step % 2 == 1), plainly.step([40 + step] * 3)
        np.testing.assert_array_equal(output.top_log_probs, expected.top_log_probs)
        assert (output.logits is None) == (step % 2 == 0)
        if output.logits is not None:
            log_probs = output.logits - np.log(np.exp(output.logits).sum(axis=1, keepdims=True))
            best = np.take_along_axis(log_probs, output.top_ids, axis=1)
            np.testing.assert_allclose(best, output.top_log_probs, atol=1e-5)


def test_limits_are_kept(bundle: LoadedBundle) -> None:
    runtime = make(bundle, 2)
    assert (runtime.max_rows, runtime.target_capacity, runtime.prefill_chunk, runtime.top_k) == (2, 40, 8, 16)
    assert runtime.provider == "CPUExecutionProvider"
    with pytest.raises(ValueError, match="a chunk of 9 tokens: 1 to 8"):
        runtime.prefill([5] * 9, 0)
    with pytest.raises(ValueError, match="a chunk of 0 tokens: 1 to 8"):
        runtime.prefill([], 0)
    with pytest.raises(ValueError, match="a chunk begins at 3: 0 to 0"):
        runtime.prefill([5], 3)
    prefill(runtime, [5] * 40, [8] * 5)
    with pytest.raises(ValueError, match="a prompt has 41 tokens: at most 40"):
        runtime.prefill([5], 40)
    runtime.prefill([5] * 4, 0)
    with pytest.raises(ValueError, match="5 positions of a prompt: 0 to 4"):
        runtime.admit(0, 5)
    with pytest.raises(ValueError, match="row 2: 0 to 1"):
        runtime.admit(2, 4)
    with pytest.raises(ValueError, match="3 rows: 1 to 2"):
        runtime.step([2, 2, 2])
    with pytest.raises(ValueError, match="with_attention"):
        runtime.step([2], with_attention=True)
    with pytest.raises(ValueError, match="max_rows = 0"):
        make(bundle, 0)
    with pytest.raises(ValueError, match="prefill_chunk = 0"):
        make(bundle, 1, prefill_chunk=0)
    runtime.admit(0, 4)
    for _ in range(36):
        runtime.step([7])
    with pytest.raises(ValueError, match="41 target tokens: at most 40"):
        runtime.step([7])
