"""Every kind of decoding through a real server, engine, tokenizer and graphs; the model's weights are random."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.loading import load
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.unit.server import tiny

TEXT = "My sister grows tomatoes and beans behind the house."[:30]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny.write_bundle(root / "tiny" / "1")
    return root


@pytest.fixture
async def stub(repository: Path) -> AsyncIterator[inference_pb2_grpc.InferenceServiceAsyncStub]:
    settings = Settings(port=0, models=repository, precision="fp32", lanes=2, max_rows=16, default_model="tiny")
    loaded = await asyncio.to_thread(load, settings)
    server = DragomanServer(settings)
    address = await server.start()
    await server.open(loaded.catalogue)
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)
        await server.drain(0)


async def translate(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub, text: str = TEXT, **options: object
) -> inference_pb2.TranslateResponse:
    request = inference_pb2.TranslateRequest(
        text=text,
        target_language="de",
        options=inference_pb2.DecodingOptions(**options),  # type: ignore[arg-type]
    )
    response: inference_pb2.TranslateResponse = await stub.Translate(request)
    return response


def texts(response: inference_pb2.TranslateResponse) -> list[str]:
    return [hypothesis.text for hypothesis in response.hypotheses]


def assert_ranked(response: inference_pb2.TranslateResponse, count: int) -> None:
    assert len(response.hypotheses) == count
    ranks = [hypothesis.rank_score for hypothesis in response.hypotheses]
    assert ranks == sorted(ranks, reverse=True)
    for hypothesis in response.hypotheses:
        assert hypothesis.score == pytest.approx(sum(hypothesis.token_log_probs), abs=1e-4)
        assert hypothesis.rank_score == pytest.approx(hypothesis.score / len(hypothesis.token_log_probs), abs=1e-4)
    produced = sum(len(hypothesis.token_log_probs) for hypothesis in response.hypotheses)
    assert response.usage.target_tokens == produced


async def test_n_best(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    response = await translate(stub, beam_size=5, num_hypotheses=5)
    assert_ranked(response, 5)
    assert len({tuple(hypothesis.tokens) for hypothesis in response.hypotheses}) == 5
    greedy = await translate(stub)
    assert response.hypotheses[0].rank_score >= greedy.hypotheses[0].rank_score


async def test_a_forced_beginning_and_its_alternatives(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    prefix = "Der Hafen"
    for options in ({}, {"beam_size": 3, "num_hypotheses": 3}, {"temperature": 1.0, "num_hypotheses": 3}):
        response = await translate(stub, target_prefix=prefix, **options)
        assert all(text.startswith(prefix) for text in texts(response))
    response = await translate(stub, target_prefix=prefix, alternatives=4)
    assert_ranked(response, 4)
    assert all(text.startswith(prefix) for text in texts(response))
    first = {(*hypothesis.tokens, "end")[len(prefix_tokens(response))] for hypothesis in response.hypotheses}
    assert len(first) == 4


def prefix_tokens(response: inference_pb2.TranslateResponse) -> list[str]:
    """The pieces that all hypotheses share: the forced ones, since each alternative goes on with another."""
    shared = []
    for pieces in zip(*(hypothesis.tokens for hypothesis in response.hypotheses), strict=False):
        if len(set(pieces)) > 1:
            break
        shared.append(pieces[0])
    return shared


async def test_a_seed_gives_the_same_text_whatever_else_runs(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub,
) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "top_k": 20, "top_p": 0.95, "seed": 7, "num_hypotheses": 3}
    alone = await translate(stub, **options)
    others = [translate(stub, text=f"{number} beans", beam_size=number % 7 + 1) for number in range(20)]
    crowd = asyncio.gather(*others)
    among = await asyncio.gather(*(translate(stub, **options) for _ in range(10)))
    await crowd
    assert_ranked(alone, 3)
    assert all(texts(response) == texts(alone) for response in among)
    assert texts(await translate(stub, **(options | {"seed": 8}))) != texts(alone)


async def test_stop_cuts_the_text_before_it(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    whole = texts(await translate(stub))[0]
    assert len(whole) > 4
    response = await translate(stub, stop=["never in it", whole[2:4]])
    (hypothesis,) = response.hypotheses
    assert hypothesis.text == whole[: whole.index(whole[2:4])]
    assert hypothesis.finish_reason == inference_pb2.FINISH_REASON_STOP_SEQUENCE


async def test_banned_and_allowed_words(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    free = (await translate(stub)).hypotheses[0].tokens
    letters = sorted({piece for piece in free if piece.isascii()})
    assert letters  # pieces that are their own text
    banned = (await translate(stub, banned_words=letters)).hypotheses[0].tokens
    assert len(banned) > 3
    assert not set(letters) & set(banned)
    allowed = await translate(stub, allowed_words=["Hafen", "Stadt"], beam_size=4, min_length=3)
    permitted = set("HafenStadtĠ")
    assert allowed.hypotheses[0].tokens
    assert all(set(token) <= permitted for token in allowed.hypotheses[0].tokens)


async def test_lengths(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    response = await translate(stub, max_length=5, min_length=4, beam_size=3, num_hypotheses=3)
    for hypothesis in response.hypotheses:
        assert len(hypothesis.token_log_probs) == 5
    short = await translate(stub, text="beans", max_length_ratio=0.5)
    assert len(short.hypotheses[0].token_log_probs) <= 2
    single = await translate(stub, no_repeat_ngram_size=1, min_length=15, max_length=18)
    tokens = list(single.hypotheses[0].tokens)
    assert len(set(tokens)) == len(tokens) >= 15


async def test_a_request_wider_than_a_lane_is_refused_not_stuck(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await translate(stub, beam_size=17)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert_ranked(await translate(stub, beam_size=16, num_hypotheses=16), 16)
