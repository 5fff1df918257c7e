"""Callers that take as little of the machine as they can: messages that are bytes already, from one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import numpy as np
import numpy.typing as npt

from dragoman_server.planning.subject import Call

_CONNECTIONS = 4
_REFUSALS = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
_SECONDS = 120.0
"""A call that is not answered by then has failed."""

Floats = npt.NDArray[np.float64]
_Caller = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True)
class Called:
    """Answered calls."""

    latencies: Floats
    """Seconds; in an open loop from the moment at which the call was due, NaN where it was refused."""
    seconds: float
    """From the first call to the last answer."""
    cpu_seconds: float
    """Processor time of this process."""
    answered_at: Floats
    """Seconds since the first call was due, NaN where it was refused."""

    @property
    def throughput(self) -> float:
        """Answers in a second."""
        return float(np.count_nonzero(np.isfinite(self.latencies)) / self.seconds)


async def closed_loop(address: str, calls: Sequence[Call], *, callers: int, seconds: float, warm_up: int) -> Called:
    """``callers`` that each call as soon as they are answered, for so long after the first ``warm_up`` answers.

    Raises grpc.aio.AioRpcError where a call fails.
    """
    latencies: list[float] = []
    answered: list[float] = []
    count = 0
    began, cpu = 0.0, 0.0

    async def caller(call: _Caller) -> None:
        nonlocal count, began, cpu
        while not began or time.perf_counter() < began + seconds:
            number = count
            count += 1
            if number == warm_up:
                began, cpu = time.perf_counter(), time.process_time()
            asked = time.perf_counter()
            await call(calls[number % len(calls)])
            if began:
                now = time.perf_counter()
                latencies.append(now - asked)
                answered.append(now - began)

    async with grpc.aio.insecure_channel(address) as channel:
        call = _caller(channel)
        await asyncio.gather(*(caller(call) for _ in range(callers)))
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return Called(np.array(latencies), took, used, np.array(answered))


async def open_loop(address: str, calls: Sequence[Call], due: Floats) -> Called:
    """One call at each of the times ``due``, in seconds from now, whether or not the others were answered.

    A refusal (RESOURCE_EXHAUSTED by the server, UNAVAILABLE by gRPC's core before it) is no failure while others are
    answered; raises grpc.aio.AioRpcError for any other.
    """
    loop = asyncio.get_running_loop()
    latencies, answered = np.full(len(due), np.nan), np.full(len(due), np.nan)
    tasks: set[asyncio.Task[None]] = set()
    refusals: list[grpc.aio.AioRpcError] = []
    all_due = loop.create_future()

    async with AsyncExitStack() as stack:
        # One connection has no more calls under way than the server allows it; the others would wait here.
        options = (("grpc.use_local_subchannel_pool", 1),)
        made = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CONNECTIONS)]
        channels = [await stack.enter_async_context(channel) for channel in made]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        callers = [_caller(channel) for channel in channels]
        cpu = time.process_time()
        began = loop.time()

        async def one(number: int) -> None:
            try:
                await callers[number % len(callers)](calls[number % len(calls)])
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSALS:
                    raise
                refusals.append(error)
                return
            answered[number] = loop.time() - began
            latencies[number] = answered[number] - due[number]

        def at(number: int) -> None:
            tasks.add(asyncio.ensure_future(one(number)))
            if number + 1 < len(due):
                loop.call_at(began + due[number + 1], at, number + 1)
            else:
                all_due.set_result(None)

        loop.call_at(began + due[0], at, 0)
        await all_due
        await asyncio.gather(*tasks)
        if len(refusals) == len(due):
            raise refusals[-1]
        return Called(latencies, loop.time() - began, time.process_time() - cpu, answered)


def _caller(channel: grpc.aio.Channel) -> _Caller:
    """Sends the bytes, and reads all answers without looking into them."""
    methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
    streams: dict[str, grpc.aio.UnaryStreamMultiCallable[bytes, bytes]] = {}

    async def call(asked: Call) -> None:
        name = asked.method
        if asked.streams:
            if name not in streams:
                streams[name] = channel.unary_stream(name, request_serializer=bytes, response_deserializer=bytes)
            async for _ in streams[name](asked.message, timeout=_SECONDS):
                pass
            return
        if name not in methods:
            methods[name] = channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
        await methods[name](asked.message, timeout=_SECONDS)

    return call
