"""Generate on a real server over a real engine and the toy model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from typing import cast

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.service.status import ERROR_DETAILS_KEY
from tests.contract.generating import WINDOW, Generating, LettersCodec, generating, request
from tests.unit.server import reference
from tests.unit.server.prompt_reference import PromptToy, Slid, slide
from tests.unit.server.toy_model import BOS

SLIDE = inference_pb2.CONTEXT_OVERFLOW_SLIDE
CODEC = LettersCodec()
KINDS: list[dict[str, object]] = [{"temperature": 1.5}, {"top_k": 4}, {"beam_size": 3}, {}]


def options(**fields: object) -> inference_pb2.DecodingOptions:
    return inference_pb2.DecodingOptions(**fields)  # type: ignore[arg-type]


def ids(prompt: str) -> tuple[int, ...]:
    return (BOS, *CODEC.encode(prompt))


def slid(prompt: str, wanted: DecodingOptions, discarded: int = 0) -> Slid:
    return slide((BOS, *CODEC.encode(prompt)[discarded:]), wanted, WINDOW)


@pytest.fixture
async def serving() -> AsyncIterator[Generating]:
    async with generating() as running:
        yield running


async def faults(serving: Generating, prompt: str = "hello", **fields: object) -> dict[str, tuple[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.chunks(prompt, **fields)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return {violation.field: (violation.value, violation.limit) for violation in violations(raised.value)}


def violations(error: grpc.aio.AioRpcError) -> Iterable[inference_pb2.Violation]:
    trailing = dict(cast("list[tuple[str, bytes]]", list(error.trailing_metadata())))
    return inference_pb2.ErrorDetails.FromString(trailing[ERROR_DETAILS_KEY]).violations


async def test_the_deltas_are_the_text_and_the_last_chunk_has_the_answer(serving: Generating) -> None:
    call = serving.stub.Generate(request("hello", options=options(max_length=15, min_length=12)))
    received = [chunk async for chunk in call]
    (expected,) = reference.decode(PromptToy(ids("hello")), DecodingOptions(max_length=15, min_length=12))
    text = CODEC.decode(expected.tokens)
    assert "".join(chunk.final_text_delta for chunk in received) == text
    assert [chunk.HasField("response") for chunk in received] == [False] * (len(received) - 1) + [True]
    response = received[-1].response
    (hypothesis,) = response.hypotheses
    assert (hypothesis.text, "".join(hypothesis.tokens)) == (text, text)
    assert hypothesis.token_log_probs == pytest.approx(expected.log_probs, abs=1e-5)
    assert hypothesis.rank_score == pytest.approx(sum(expected.log_probs) / len(expected.log_probs), abs=1e-5)
    assert response.usage == inference_pb2.Usage(source_tokens=6, target_tokens=len(expected.log_probs))
    assert (response.model, response.model_version, response.discarded_tokens) == ("toy", "3", 0)
    trailing = dict(iter(await call.trailing_metadata()))
    assert trailing["dragoman-model"] == "toy"
    assert trailing["dragoman-steps"] == str(len(expected.log_probs))


async def test_every_option_that_has_a_meaning_does_what_its_reference_says(serving: Generating) -> None:
    cases: list[tuple[dict[str, object], dict[str, object]]] = [
        ({"beam_size": 4, "num_hypotheses": 3}, {"beam_size": 4, "num_hypotheses": 3}),
        ({"alternatives": 3, "target_prefix": "fg"}, {"alternatives": 3, "prefix": tuple(CODEC.encode("fg"))}),
        ({"temperature": 1.5, "seed": 9, "num_hypotheses": 3}, {"sampling": 1.5, "num_hypotheses": 3}),
        (
            {"repetition_penalty": 1.5, "no_repeat_ngram_size": 1},
            {"repetition_penalty": 1.5, "no_repeat_ngram_size": 1},
        ),
        ({"banned_words": ["e", "f"]}, {"banned": ((4,), (5,))}),
        ({"allowed_words": ["efg"]}, {"allowed": (4, 5, 6)}),
        ({"frequency_penalty": 1.0, "min_length": 7}, {"frequency_penalty": 1.0, "min_length": 7}),
    ]
    for given, wanted in cases:
        if "sampling" in wanted:
            wanted["sampling"] = SamplingOptions(seed=9, temperature=1.5)
        asked = DecodingOptions(max_length=10, **wanted)  # type: ignore[arg-type]
        expected = reference.decode(PromptToy(ids("jklm"), asked), asked)
        received = await serving.chunks("jklm", options=options(max_length=10, **given))
        response = received[-1].response
        assert [hypothesis.text for hypothesis in response.hypotheses] == [CODEC.decode(f.tokens) for f in expected]
        assert "".join(chunk.final_text_delta for chunk in received) == response.hypotheses[0].text


async def test_without_a_length_what_is_left_of_the_window_is_generated(serving: Generating) -> None:
    for prompt, room in (("", WINDOW), ("ef" * 6, WINDOW - 12), ("e" * (WINDOW - 1), 1)):
        response = (await serving.chunks(prompt, options=options(min_length=room - 1)))[-1].response
        expected = reference.greedy(PromptToy(ids(prompt)), DecodingOptions(max_length=room, min_length=room - 1))
        assert response.hypotheses[0].text == CODEC.decode(expected.tokens)


async def test_refusal_names_all_faults_and_the_window(serving: Generating) -> None:
    assert await faults(serving, "e" * WINDOW) == {
        "prompt": (
            "24 tokens",
            "at most 23 tokens, fewer than the model's window (limits.target_tokens) of 24; "
            "or context_overflow = CONTEXT_OVERFLOW_SLIDE",
        )
    }
    assert (await faults(serving, "e" * 10, options=options(max_length=15)))["prompt"] == (
        "10 tokens, with options.max_length = 15",
        "together at most 24 tokens, the model's window (limits.target_tokens); "
        "or context_overflow = CONTEXT_OVERFLOW_SLIDE",
    )
    assert set(await faults(serving, "e" * 10, options=options(min_length=14))) == {"options.min_length"}
    assert set(await faults(serving, "e" * 10, options=options(target_prefix="e" * 14))) == {"options.target_prefix"}
    everything = await faults(
        serving,
        "e\0f",
        priority=10,
        context_overflow=7,
        options=options(max_length=25, max_length_ratio=2, coverage_penalty=0.1, replace_unknowns=True, top_p=2),
    )
    assert set(everything) == {
        "prompt",
        "priority",
        "context_overflow",
        "options.max_length",
        "options.max_length_ratio",
        "options.coverage_penalty",
        "options.replace_unknowns",
        "options.top_p",
    }
    assert await faults(serving, "ef", context_overflow=SLIDE, options=options(beam_size=2, max_length=65_537)) == {
        "options.beam_size": ("2", "one hypothesis alone with CONTEXT_OVERFLOW_SLIDE"),
        "options.max_length": ("65537", "1 to 65536 tokens"),
    }
    assert set(await faults(serving, "e" * 100_001, context_overflow=SLIDE)) == {"prompt"}


async def test_a_model_that_cannot_is_refused_with_what_it_can(serving: Generating) -> None:
    found = await faults(serving, model="deu-eng")
    assert found["model"] == ("deu-eng", "one that generates: toy (deu-eng translates)")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.chunks(model="absent")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError, match=r"one that translates: deu-eng \(toy generates\)"):
        await serving.stub.Translate(inference_pb2.TranslateRequest(text="e", target_language="de", model="toy"))
    # The default translates, so the first that generates answers.
    assert (await serving.chunks(model="", options=options(max_length=2)))[-1].response.model == "toy"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, DecodingOptions(max_length=90, min_length=80)),
        (
            {"temperature": 2, "seed": 5},
            DecodingOptions(max_length=90, min_length=80, sampling=SamplingOptions(5, temperature=2)),
        ),
        (
            {"temperature": 1, "top_k": 4, "seed": 6},
            DecodingOptions(max_length=90, min_length=80, sampling=SamplingOptions(6, top_k=4)),
        ),
        (
            {"repetition_penalty": 1.1, "frequency_penalty": 0.3, "no_repeat_ngram_size": 2, "banned_words": ["ef"]},
            DecodingOptions(
                max_length=90,
                min_length=80,
                repetition_penalty=1.1,
                frequency_penalty=0.3,
                no_repeat_ngram_size=2,
                banned=((4, 5),),
            ),
        ),
    ],
)
async def test_a_text_goes_on_beyond_the_window_as_token_by_token(
    serving: Generating, given: dict[str, object], wanted: DecodingOptions
) -> None:
    asked = options(max_length=90, min_length=80, **given)
    received = await serving.chunks("hello", context_overflow=SLIDE, options=asked)
    expected = slid("hello", wanted)
    assert expected.windows > 5
    (hypothesis,) = received[-1].response.hypotheses
    assert hypothesis.text == CODEC.decode(expected.tokens)
    assert hypothesis.token_log_probs == pytest.approx(expected.log_probs, abs=1e-4)
    assert hypothesis.rank_score == pytest.approx(sum(expected.log_probs) / len(expected.log_probs), abs=1e-4)
    assert "".join(chunk.final_text_delta for chunk in received) == hypothesis.text
    assert received[-1].response.discarded_tokens == 0


async def test_of_a_long_prompt_the_last_tokens_are_read(serving: Generating) -> None:
    prompt = "efghijklmnopqrstuvwx" * 3
    for max_length, discarded in ((5, 60 - 19), (30, 60 - 12)):
        asked = options(max_length=max_length, min_length=max_length - 1)
        response = (await serving.chunks(prompt, context_overflow=SLIDE, options=asked))[-1].response
        wanted = DecodingOptions(max_length=max_length, min_length=max_length - 1)
        assert response.discarded_tokens == discarded
        assert response.usage.source_tokens == 60 - discarded + 1
        assert response.hypotheses[0].text == CODEC.decode(slid(prompt, wanted, discarded).tokens)
    # What fits is read whole, and without a length the rest of the window is generated.
    response = (await serving.chunks("e" * 9, context_overflow=SLIDE, options=options(min_length=14)))[-1].response
    assert (response.discarded_tokens, response.usage.target_tokens) == (0, 15)


async def test_a_stop_sequence_is_found_where_the_window_slides(serving: Generating) -> None:
    wanted = DecodingOptions(max_length=60, min_length=59, sampling=SamplingOptions(seed=11))
    text = CODEC.decode(slid("hello", wanted).tokens)
    for begin in range(WINDOW - 5 - 3, WINDOW - 5 + 2):  # across the end of the first window, and beside it
        stop = text[begin : begin + 4]
        asked = options(max_length=60, min_length=59, temperature=1, seed=11, stop=[stop, "never"])
        received = await serving.chunks("hello", context_overflow=SLIDE, options=asked)
        (hypothesis,) = received[-1].response.hypotheses
        assert hypothesis.finish_reason == inference_pb2.FINISH_REASON_STOP_SEQUENCE
        assert hypothesis.text == text[: text.index(stop)]
        assert "".join(chunk.final_text_delta for chunk in received) == hypothesis.text


async def test_the_same_text_alone_and_among_32_others(serving: Generating) -> None:
    def asked(number: int) -> dict[str, object]:
        kind = KINDS[number % 4]
        overflow = 0 if number % 4 == 2 else SLIDE
        given = options(max_length=12 if number % 4 == 2 else 40, min_length=11, seed=number, **kind)
        return {"context_overflow": overflow, "options": given}

    prompts = ["efghijklmnop"[: number % 12] for number in range(33)]
    alone = [await serving.text(prompt, **asked(number)) for number, prompt in enumerate(prompts)]
    together = await asyncio.gather(*(serving.text(prompt, **asked(number)) for number, prompt in enumerate(prompts)))
    assert list(together) == alone
    assert len(set(alone)) > 20


async def test_leaving_in_mid_stream_frees_the_row() -> None:
    gate = threading.Semaphore(3)
    async with generating(gate) as serving:
        call = serving.stub.Generate(request("e", options=options(max_length=20, min_length=19)))
        async with asyncio.timeout(20):
            first = await call.read()
            assert isinstance(first, inference_pb2.GenerateChunk)
            assert first.final_text_delta
            call.cancel()
            gate.release(1000)
            while serving.engine.state().running:
                await asyncio.sleep(0.005)
        assert serving.engine.state().rows_used == 0


async def test_a_deadline_ends_a_text_that_slides() -> None:
    gate = threading.Semaphore(40)
    async with generating(gate) as serving:
        asked = request("e", context_overflow=SLIDE, options=options(max_length=500, min_length=499))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in serving.stub.Generate(asked, timeout=1.0):
                pass
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.release(1000)
        async with asyncio.timeout(20):
            while serving.engine.state().running:
                await asyncio.sleep(0.005)


async def test_score_of_a_continuation(serving: Generating) -> None:
    for prompt, target in (("hello", "ghost"), ("", "g")):
        call = serving.stub.Score(inference_pb2.ScoreRequest(text=prompt, target=target, model="toy"))
        response = await call
        model, tokens = PromptToy(ids(prompt)), tuple(CODEC.encode(target))
        expected = [float(model(tokens[:place])[token]) for place, token in enumerate(tokens)]
        assert response.token_log_probs == pytest.approx(expected, abs=1e-5)
        assert response.score == pytest.approx(sum(expected), abs=1e-4)
        assert "".join(response.tokens) == target
        assert response.usage == inference_pb2.Usage(source_tokens=len(prompt) + 1, target_tokens=len(target))
        assert dict(iter(await call.trailing_metadata()))["dragoman-model"] == "toy"


async def test_faults_of_a_score_come_at_once(serving: Generating) -> None:
    async def refused(**fields: object) -> set[str]:
        given = {"model": "toy"} | fields
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await serving.stub.Score(inference_pb2.ScoreRequest(**given))  # type: ignore[arg-type]
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return {violation.field for violation in violations(raised.value)}

    assert await refused(text="e\0", target="", target_language="de", source_language="en", priority=11) == {
        "text",
        "target",
        "target_language",
        "source_language",
        "priority",
    }
    assert await refused(text="e" * 12, target="e" * 13) == {"target"}
    assert await refused(text="e" * 25, target="e") == {"text"}
    # The default model translates.
    assert await refused(text="hi", target="ja", model="") == {"target_language"}
