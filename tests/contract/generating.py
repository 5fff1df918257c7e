"""A server of a model that generates and one that translates: the first over a real engine and the toy model."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from dragoman_protos.v1 import bundle_pb2, inference_pb2, inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.codec import Codec
from dragoman_server.decoding_host import DecodingEngine
from dragoman_server.generation_host import GenerationHost
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.contract.conftest import FakeEngine, model
from tests.unit.server.prompt_reference import ToyPromptRuntime
from tests.unit.server.toy_model import BOS, EOS

WINDOW = 24
FIRST = ord("e") - 4
"""The toy model's tokens from 4 to 23 are the letters from e to x."""


class LettersCodec:
    """One token per letter, from e to x."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - FIRST for letter in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]

    def spellings(self, phrase: str) -> list[list[int]]:
        return [self.encode(phrase)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(FIRST + token_id) for token_id in ids if token_id > EOS)

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        return "".join(words.get(place, self.decode([token_id])) for place, token_id in enumerate(ids))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.decode([token_id]) for token_id in ids]


def generator(engine: DecodingEngine, codec: Codec, name: str = "toy") -> GenerationHost:
    """A decoder-only model."""
    bundle = bundle_pb2.Bundle(
        name=name,
        family=bundle_pb2.Bundle.FAMILY_DECODER,
        tasks=[bundle_pb2.Bundle.TASK_GENERATE],
        special_ids=bundle_pb2.SpecialIds(pad=0, unk=1, bos=BOS, eos=EOS),
        limits=bundle_pb2.Limits(target_tokens=WINDOW),
    )
    return GenerationHost(
        bundle=bundle,
        version="3",
        codec=codec,
        engine=engine,
        precision="int8",
        provider="CPUExecutionProvider",
        lanes=1,
        max_rows=16,
        default_options=inference_pb2.DecodingOptions(),
        longest_text=WINDOW,
    )


@dataclass
class Generating:
    """A listening server and a client's stub for it."""

    address: str
    engine: PromptEngine
    runtime: ToyPromptRuntime
    translating: FakeEngine
    stub: inference_pb2_grpc.InferenceServiceAsyncStub

    async def chunks(self, prompt: str = "hello", **fields: object) -> list[inference_pb2.GenerateChunk]:
        return [chunk async for chunk in self.stub.Generate(request(prompt, **fields))]

    async def text(self, prompt: str = "hello", **fields: object) -> str:
        return (await self.chunks(prompt, **fields))[-1].response.hypotheses[0].text


def request(prompt: str = "hello", **fields: object) -> inference_pb2.GenerateRequest:
    given = {"model": "toy"} | fields
    return inference_pb2.GenerateRequest(prompt=prompt, **given)  # type: ignore[arg-type]


@asynccontextmanager
async def generating(
    gate: threading.Semaphore | None = None, settings: Settings | None = None
) -> AsyncIterator[Generating]:
    """Serve ``toy``, and ``deu-eng``, which answers requests that name none."""
    runtime = ToyPromptRuntime(16, capacity=WINDOW, chunk=4, gate=gate)
    engine, translating = PromptEngine([runtime], eos=EOS, max_waiting=1000, max_waiting_tokens=100_000), FakeEngine()
    engine.start()
    catalogue = Catalogue([model(translating), generator(engine, LettersCodec())], "deu-eng")
    server = DragomanServer(settings or Settings(port=0))
    address = await server.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        await server.open(catalogue)
        yield Generating(address, engine, runtime, translating, inference_pb2_grpc.InferenceServiceStub(channel))
        if gate is not None:
            gate.release(10_000)
        await server.drain(5)
