"""What the callers of a soak ask: every kind of request, good and bad, in fixed shares."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import grpc

from dragoman import (
    AsyncClient,
    DeadlineExceeded,
    DragomanError,
    InvalidArgument,
    NotFound,
    Overloaded,
)
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.independence.sentences import own_sentences

BULK_TEXTS = 16
_LATE_SECONDS = (0.002, 0.06)
_PATIENCE_SECONDS = (0.0, 0.04)
_OWN_POOL = (("grpc.use_local_subchannel_pool", 1),)
"""Else a second channel of a process shares the connection of the first."""


@dataclass(frozen=True)
class Asker:
    """One client for all callers, and what they draw from."""

    client: AsyncClient
    address: str
    texts: Sequence[str]
    """Short English sentences."""

    def text(self, chance: random.Random) -> str:
        """One of them."""
        return chance.choice(self.texts)


Ask = Callable[[Asker, random.Random], Awaitable[None]]
"""Asks once, and raises for anything but what has to come of it."""


class Unexpected(Exception):
    """A request was answered otherwise than it had to be."""


def short_texts(count: int, words: int = 12) -> list[str]:
    """``count`` different sentences of our own of at most so many words."""
    found = (one.text for one in own_sentences(12 * count, seed=5, languages=["en"]))
    return [text for text in found if len(text.split()) <= words][:count]


async def greedy(asker: Asker, chance: random.Random) -> None:
    """A translation."""
    if not (await asker.client.translate(asker.text(chance), target="de")).tokens:
        raise Unexpected("a translation without tokens")


async def beam(asker: Asker, chance: random.Random) -> None:
    """A beam of four, of which two hypotheses are wanted."""
    found = await asker.client.translate(asker.text(chance), target="de", beam_size=4, num_hypotheses=2)
    if len(found.hypotheses) != 2:
        raise Unexpected(f"{len(found.hypotheses)} hypotheses instead of 2")


async def sampling(asker: Asker, chance: random.Random) -> None:
    """A sample that looks at all logits, with a filter."""
    await asker.client.translate(
        asker.text(chance),
        target="de",
        temperature=0.9,
        top_p=0.9,
        seed=chance.getrandbits(32),
        no_repeat_ngram_size=3,
    )


async def stream(asker: Asker, chance: random.Random) -> None:
    """A translation as it is decoded, read to its end."""
    chunks = [chunk async for chunk in asker.client.stream_translate(asker.text(chance), target="de")]
    if not chunks or chunks[-1].translation is None:
        raise Unexpected("a stream without a translation at its end")


async def bulk(asker: Asker, chance: random.Random) -> None:
    """Several texts over one stream."""
    texts = [asker.text(chance) for _ in range(BULK_TEXTS)]
    found = [answer async for answer in asker.client.translate_many(texts, target="de")]
    if len(found) != BULK_TEXTS:
        raise Unexpected(f"{len(found)} answers to {BULK_TEXTS} texts")


async def generate(asker: Asker, chance: random.Random) -> None:
    """A text that is continued."""
    options = {"temperature": 0.8, "seed": chance.getrandbits(32)} if chance.random() < 0.5 else {}
    new_tokens = chance.randint(8, 32)
    stream = asker.client.generate(
        asker.text(chance),
        model="shakespeare",
        max_new_tokens=new_tokens,
        **options,  # type: ignore[arg-type]
    )
    async for _ in stream:
        pass


async def classify(asker: Asker, chance: random.Random) -> None:
    """The label of a text."""
    if not (await asker.client.classify(asker.text(chance), model="intents")).labels:
        raise Unexpected("a classification without labels")


async def embed(asker: Asker, chance: random.Random) -> None:
    """The vectors of three texts."""
    await asker.client.embed([asker.text(chance) for _ in range(3)], model="intents")


async def fill_mask(asker: Asker, chance: random.Random) -> None:
    """A word that is hidden."""
    await asker.client.fill_mask(f"[MASK] {asker.text(chance)}", model="intents")


async def score(asker: Asker, chance: random.Random) -> None:
    """How likely one text is as the translation of another."""
    await asker.client.score(asker.text(chance), "Der Zug steht am Bahnhof.", target="de")


async def explain(asker: Asker, chance: random.Random) -> None:
    """The attention behind an answer."""
    await asker.client.explain("Where is the station?", target="de")


async def cancelled(asker: Asker, chance: random.Random) -> None:
    """A call that its caller gives up soon, or a stream that is left after its first chunk."""
    if chance.random() < 0.5:
        async with aclosing(asker.client.stream_translate(asker.text(chance), target="de")) as chunks:
            async for _ in chunks:
                break
        return
    call = asyncio.ensure_future(asker.client.translate(asker.text(chance), target="de", beam_size=4))
    await asyncio.wait([call], timeout=chance.uniform(*_PATIENCE_SECONDS))
    call.cancel()
    await asyncio.wait([call])
    if not call.cancelled() and (error := call.exception()) is not None:
        raise error


async def late(asker: Asker, chance: random.Random) -> None:
    """A deadline that some keep and some do not."""
    with suppress(DeadlineExceeded, Overloaded):
        await asker.client.translate(asker.text(chance), target="de", timeout=chance.uniform(*_LATE_SECONDS))


async def invalid(asker: Asker, chance: random.Random) -> None:
    """Something that is refused."""
    which = chance.randrange(4)
    try:
        if which == 0:
            await asker.client.translate("", target="xx", beam_size=4096)
        elif which == 1:
            await asker.client.translate(asker.text(chance), target="de", model="no-such-model")
        elif which == 2:
            await asker.client.classify("word " * 500, model="intents")
        else:
            await asker.client.embed([], model="deu-eng")
    except (InvalidArgument, NotFound):
        return
    raise Unexpected(f"the invalid request {which} was answered")


async def connect(asker: Asker, chance: random.Random) -> None:
    """A connection of its own for one request; now and then it is closed while the answer is on its way."""
    request = inference_pb2.TranslateRequest(text=asker.text(chance), target_language="de")
    channel = grpc.aio.insecure_channel(asker.address, options=_OWN_POOL)
    async with channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Translate(request)
        if chance.random() < 0.8:
            await call
        else:
            await call.wait_for_connection()


async def hang_up(asker: Asker, chance: random.Random) -> None:
    """A connection that sends a few bytes of nonsense, or nothing, and goes."""
    host, _, port = asker.address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    if chance.random() < 0.5:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
    writer.close()
    with suppress(ConnectionError):  # the server was faster
        await writer.wait_closed()


SHARES: dict[Ask, int] = {
    greedy: 330,
    beam: 60,
    sampling: 70,
    stream: 80,
    bulk: 10,
    generate: 60,
    classify: 120,
    embed: 50,
    fill_mask: 30,
    score: 30,
    explain: 10,
    cancelled: 50,
    late: 45,
    invalid: 40,
    connect: 10,
    hang_up: 5,
}
"""Of a thousand requests."""


async def ask(kind: Ask, asker: Asker, chance: random.Random) -> str | None:
    """Ask once; returns what went wrong, None where nothing did."""
    try:
        await kind(asker, chance)
    except (DragomanError, Unexpected, grpc.RpcError, OSError) as error:
        return f"{kind.__name__}: {type(error).__name__}: {error}"[:300]
    return None
