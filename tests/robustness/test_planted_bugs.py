"""For each invariant a bug that breaks it, planted in a server: a suite that cannot fail would prove nothing."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from dragoman_protos.v1 import inference_pb2
from dragoman_server.bundle import LoadedBundle
from dragoman_server.decoding.batch import Batch
from dragoman_server.joining import EncoderJoining, Turn
from dragoman_server.pace import Pace
from dragoman_server.request import Request
from dragoman_server.row_decoder import StepOutput
from dragoman_server.runtime import OnnxRuntime, Runtime
from dragoman_server.service.inference import InferenceService
from tests.robustness import asks
from tests.robustness.asks import Answer, Ask
from tests.robustness.driving import Manner
from tests.robustness.history import History
from tests.robustness.in_process import ROWS, EngineAround, Parts, serving
from tests.robustness.invariants import Violation, violations
from tests.robustness.profiles import Profile
from tests.robustness.scene import Scene
from tests.robustness.world import answers_alone

REQUESTS = 60
RESIDENT = 32.0
"""MiB that the plain server may take under this traffic."""
PROFILE = Profile("planted", {asks.SHORT: 3, asks.WIDE: 1}, {"call": 2, "stream": 6, "bulk": 1})
POOL: dict[str, list[Ask]] = {kind: asks.pool()[kind][:8] for kind in (asks.SHORT, asks.WIDE)}
WARM_UP = sum(map(len, POOL.values()))
"""Requests before anybody looks."""
MAY_CANCEL = frozenset({"OK", "CANCELLED"})

_KEPT = b"\x01" * (3 << 20)
_answers: dict[str, Answer] = {}


@pytest.fixture
async def alone() -> dict[str, Answer]:
    """Asked for once: a server without bugs, and nobody else there."""
    if not _answers:
        async with serving(Parts()) as server:
            _answers.update(await answers_alone(server, POOL, History("alone")))
    return _answers


async def played(parts: Parts, alone: dict[str, Answer], *, timeout: float = 30.0) -> list[Violation]:
    """Traffic with some cancellations at a server of these parts, and what the invariants say of it."""
    history = History("planted")
    scene = Scene(history, POOL, alone, random.Random(4), requests=REQUESTS, settle_seconds=1.0)
    plain = Manner(timeout=timeout)
    # What bugs make a server log is nobody's business, and pretty tracebacks take longer than all the rest.
    with capture_logs():
        await _play(scene, parts, plain)
    return violations(history.events, alone)


async def _play(scene: Scene, parts: Parts, plain: Manner) -> None:
    async with serving(parts) as server, scene.channels(server, 2) as drivers:
        await asyncio.gather(*(drivers[0].send(ask, "call", plain) for kind in POOL.values() for ask in kind))
        async with scene.watched(server, resident=RESIDENT), asyncio.TaskGroup() as group:
            group.create_task(scene.traffic(drivers, PROFILE, at_once=12, manner=lambda ask, way: plain).run())
            for ask in POOL[asks.WIDE]:
                begun = asyncio.Event()
                manner = replace(plain, may=MAY_CANCEL, on_piece=begun.set)
                task = asyncio.create_task(drivers[1].send(ask, "stream", manner))
                first = asyncio.create_task(begun.wait())
                await asyncio.wait([task, first], return_when=asyncio.FIRST_COMPLETED)
                task.cancel()
                first.cancel()
                await asyncio.wait([task, first])


async def test_a_server_without_bugs_breaks_nothing(alone: dict[str, Answer]) -> None:
    assert await played(Parts(), alone) == []


class LosesRows(EncoderJoining):
    """Bug: after some requests there is a row less, which the scheduler does not know."""

    _joined = 0

    def turn(self, joiners: Sequence[Request], batch: Batch, pace: Pace) -> Turn:
        self._joined += len(joiners)
        if self._joined > WARM_UP:
            batch.rows.capacity = ROWS - 1
        return super().turn(joiners, batch, pace)


class DropsRequests(EngineAround):
    """Bug: every tenth request is forgotten."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._count = itertools.count(1)

    def submit(self, request: Request) -> None:
        if next(self._count) % 10:
            super().submit(request)


class AnswersTwice(InferenceService):
    """Bug: what a bulk call has answered, it answers again."""

    async def TranslateMany(  # noqa: N802  (gRPC's name)
        self, request_iterator: object, context: Any
    ) -> AsyncGenerator[inference_pb2.TranslateManyResponse, None]:
        async with aclosing(super().TranslateMany(request_iterator, context)) as answers:
            async for answer in answers:
                yield answer
                yield answer


class MixesRows(OnnxRuntime):
    """Bug: with two rows or more, the first two get each other's tokens."""

    def step(self, tokens: Any, *, with_logits: bool = False, with_attention: bool = False) -> StepOutput:
        output = super().step(tokens, with_logits=with_logits, with_attention=with_attention)
        if len(tokens) > 1:
            output.top_ids[[0, 1]] = output.top_ids[[1, 0]]
        return output


class ShiftsScores(OnnxRuntime):
    """Bug: with two rows or more, scores are a little different; the tokens are not."""

    def step(self, tokens: Any, *, with_logits: bool = False, with_attention: bool = False) -> StepOutput:
        output = super().step(tokens, with_logits=with_logits, with_attention=with_attention)
        if len(tokens) > 1:
            output.top_log_probs[...] -= 1e-6
        return output


class GoesOn(InferenceService):
    """Bug: a chunk comes after the last one."""

    async def StreamTranslate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TranslateRequest, context: Any
    ) -> AsyncGenerator[inference_pb2.TranslateChunk, None]:
        async with aclosing(super().StreamTranslate(request, context)) as chunks:
            async for chunk in chunks:
                yield chunk
                if chunk.HasField("response"):
                    yield inference_pb2.TranslateChunk(provisional_text="And then")


class TakesBack(InferenceService):
    """Bug: text is called final that is only provisional."""

    async def StreamTranslate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TranslateRequest, context: Any
    ) -> AsyncGenerator[inference_pb2.TranslateChunk, None]:
        async with aclosing(super().StreamTranslate(request, context)) as chunks:
            async for chunk in chunks:
                chunk.final_text_delta += chunk.provisional_text
                yield chunk


class KeepsMemory(EngineAround):
    """Bug: three MiB are kept of every request."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._kept: list[mmap.mmap] = []

    def submit(self, request: Request) -> None:
        pages = mmap.mmap(-1, len(_KEPT))  # from the kernel: the heap may have room from before
        pages.write(_KEPT)
        self._kept.append(pages)
        super().submit(request)


class KeepsFiles(EngineAround):
    """Bug: a file stays open for every request."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._kept: list[int] = []

    def submit(self, request: Request) -> None:
        self._kept.append(os.open(os.devnull, os.O_RDONLY))
        super().submit(request)

    def stop(self, grace: float) -> None:
        super().stop(grace)
        for descriptor in self._kept:
            os.close(descriptor)


def runtime(kind: type[OnnxRuntime]) -> Any:
    def new(bundle: LoadedBundle) -> Runtime:
        manifest = bundle.manifest
        return kind(
            bundle.encoder, bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=ROWS
        )

    return new


def losing(of: Runtime, bos: int) -> EncoderJoining:
    return LosesRows(of, bos=bos, clock=asyncio.get_running_loop().time)


@pytest.mark.parametrize(
    ("bug", "parts", "invariant"),
    [
        ("loses rows", Parts(joining=losing), "idle is free"),
        ("drops requests", Parts(around=DropsRequests), "ends once"),
        ("answers twice", Parts(service=AnswersTwice), "ends once"),
        ("mixes rows", Parts(runtime=runtime(MixesRows)), "same as alone"),
        ("shifts scores", Parts(runtime=runtime(ShiftsScores)), "same as alone"),
        ("goes on", Parts(service=GoesOn), "nothing after the end"),
        ("takes back", Parts(service=TakesBack), "nothing after the end"),
        ("keeps memory", Parts(around=KeepsMemory), "memory returns"),
        ("keeps files", Parts(around=KeepsFiles), "memory returns"),
    ],
)
async def test_a_bug_is_found(bug: str, parts: Parts, invariant: str, alone: dict[str, Answer]) -> None:
    found = await played(parts, alone, timeout=2.0 if bug == "drops requests" else 30.0)
    assert invariant in {violation.invariant for violation in found}, bug
