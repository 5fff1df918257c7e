"""The same answer by every way: unary, streamed, among many, sync and async, over a real engine with random weights."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dragoman import AsyncClient, Chunk, Client, Receipt, Retry, Translation
from dragoman_server.settings import Settings
from tests.contract.running import Running, serving
from tests.unit.server import tiny

TEXTS = [
    "The old harbour",
    "grüne Fahrräder 🚲 und 漢字",
    "My sister grows beans. Nobody has seen her!\n\n  - tomatoes\n  - ***\n",
    "beans, " * 60,
    "x",
]
DECODINGS: list[dict[str, Any]] = [
    {},
    {"beam_size": 4, "num_hypotheses": 3},
    {"temperature": 1.5, "seed": 7, "num_hypotheses": 2},
    {"beam_size": 3, "stop": ["e", "\n"]},
    {"segmentation": "sentences", "no_repeat_ngram_size": 2},
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    tiny.write_bundle(root / "tiny" / "1")
    with serving(
        Settings(port=0, models=root, precision="fp32", lanes=2, max_rows=8, max_waiting=32, stream_window=48)
    ) as found:
        yield found


def bare(translation: Translation) -> Translation:
    """Without what depends on the moment."""
    return replace(translation, receipt=Receipt())


def assert_same(translation: Translation, other: Translation) -> None:
    """Scores may differ in the last bits: float32 graphs depend on who else is in the batch."""
    assert [h.tokens for h in translation.hypotheses] == [h.tokens for h in other.hypotheses]
    assert [h.text for h in translation.hypotheses] == [h.text for h in other.hypotheses]
    assert translation.score == pytest.approx(other.score, abs=1e-3)
    assert translation.usage == other.usage
    assert [replace(s, score=0) for s in translation.segments] == [replace(s, score=0) for s in other.segments]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_streamed_and_among_many_is_as_alone(running: Running, decoding: dict[str, Any]) -> None:
    with Client(running.address) as client:
        alone = [client.translate(text, target="de", **decoding) for text in TEXTS]
        for text, translation in zip(TEXTS, alone, strict=True):
            chunks = list(client.stream_translate(text, target="de", **decoding))
            assert_grows(chunks)
            assert chunks[-1].translation is not None
            assert_same(chunks[-1].translation, translation)
        many = list(client.translate_many(TEXTS * 20, target="de", **decoding))
    for translation, expected in zip(many, alone * 20, strict=True):
        assert_same(translation, expected)


def assert_grows(chunks: list[Chunk]) -> None:
    for before, after in itertools.pairwise(chunks):
        assert after.final_text.startswith(before.final_text)
    assert chunks[-1].provisional_text == ""


async def test_the_clients_are_given_the_same(running: Running) -> None:
    def synchronous() -> list[Translation]:
        with Client(running.address) as client:
            last = list(client.stream_translate(TEXTS[2], target="de"))[-1].translation
            assert last is not None
            return [*client.translate_many(TEXTS, target="de"), client.translate(TEXTS[0], target="de"), last]

    async with AsyncClient(running.address) as client:
        answers = [answer async for answer in client.translate_many(TEXTS, target="de")]
        answers.append(await client.translate(TEXTS[0], target="de"))
        chunks = [chunk async for chunk in client.stream_translate(TEXTS[2], target="de")]
        assert_grows(chunks)
        assert chunks[-1].translation is not None
        answers.append(chunks[-1].translation)
        score = await client.score(TEXTS[0], "Der Hafen", target="de")
    expected = await asyncio.to_thread(synchronous)
    for answer, other in zip(answers, expected, strict=True):
        assert_same(bare(answer), bare(other))

    def scored() -> float:
        with Client(running.address) as other:
            return other.score(TEXTS[0], "Der Hafen", target="de").score

    assert await asyncio.to_thread(scored) == pytest.approx(score.score, abs=1e-3)


@pytest.mark.parametrize("text", TEXTS[:2])
def test_the_score_of_a_text_is_that_of_decoding_it_by_force(running: Running, text: str) -> None:
    target = "Der alte Hafen"
    with Client(running.address) as client:
        forced = client.translate(text, target="de", target_prefix=target)
        told = client.score(text, target, target="de")
    count = len(told.tokens)
    assert told.tokens == forced.tokens[:count]
    assert told.token_log_probs[:count] == pytest.approx(forced.hypotheses[0].token_log_probs[:count], abs=1e-3)
    assert len(told.token_log_probs) == count + 1
    assert told.score == pytest.approx(sum(told.token_log_probs), abs=1e-3)
    assert told.usage.source_tokens == forced.usage.source_tokens
    assert told.usage.target_tokens == count + 1


def settles_at_zero(running: Running) -> bool:
    event = threading.Event()
    for _ in range(1000):
        if running.rows_used == 0:
            return True
        event.wait(0.01)
    return False


def test_leaving_a_stream_gives_its_rows_back(running: Running) -> None:
    with Client(running.address, retry=Retry(attempts=1)) as client:
        for _ in range(5):
            chunks = client.stream_translate(TEXTS[3] * 3, target="de", beam_size=4, min_length=18)
            next(chunks)
            chunks.close()
            many = client.translate_many([TEXTS[3]] * 40, target="de", beam_size=2)
            next(many)
            many.close()
        assert settles_at_zero(running)
        assert client.translate("x", target="de").text is not None


def test_three_thousand_texts_of_which_some_are_bad(running: Running) -> None:
    texts = [f"bean {number}" if number % 50 else "" for number in range(3000)]
    with Client(running.address) as client:
        answers = list(client.translate_many(texts, target="de", return_errors=True, max_length=4))
    assert [isinstance(answer, Translation) for answer in answers] == [bool(text) for text in texts]
    assert settles_at_zero(running)
