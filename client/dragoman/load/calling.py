"""Calls of raw bytes over several connections, with the times at which their messages came."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from dragoman.connection import Connection
from dragoman.errors import DragomanError, Failure, error_from
from dragoman.load.queries import Query


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one call. Times are those of ``time.perf_counter``."""

    messages: Sequence[bytes]
    """As they came: of a call that is no stream, one."""
    times: Sequence[float]
    """When each of them came."""
    ended: float
    failure: Failure | None = None
    """How it failed."""

    @property
    def error(self) -> DragomanError | None:
        """The failure as a typed error."""
        return None if self.failure is None else error_from(self.failure)


class Calls:
    """Asks queries over ``connections`` connections in turn; nothing is tried again. An async context manager.

    Messages are neither built nor read here: a generator that takes the processor from the server would measure
    itself.
    """

    def __init__(self, connection: Connection, *, connections: int, timeout: float) -> None:
        """``timeout``: the longest wait for one answer, in seconds."""
        self._timeout = timeout
        self._metadata = connection.metadata
        # Or channels with the same target share one connection, and the limit of its calls.
        options = [*connection.options, ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [_channel(connection, options) for _ in range(connections)]
        self._turn = itertools.cycle(range(connections))
        self._methods: dict[tuple[int, str], Callable[..., Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close(None)

    async def ask(self, query: Query) -> Reply:
        """One call; a failure is part of the reply."""
        call = self._method(query)(query.message, timeout=self._timeout, metadata=self._metadata)
        messages: list[bytes] = []
        times: list[float] = []
        try:
            if query.call.chunk is None:
                messages.append(await call)
                times.append(time.perf_counter())
            else:
                async for message in call:
                    messages.append(message)
                    times.append(time.perf_counter())
        except grpc.aio.AioRpcError as error:
            return Reply(messages, times, time.perf_counter(), Failure(error.code(), error.details() or ""))
        return Reply(messages, times, times[-1] if times else time.perf_counter())

    def _method(self, query: Query) -> Callable[..., Any]:
        key = (next(self._turn), query.call.path)
        if key not in self._methods:
            channel = self._channels[key[0]]
            opened = channel.unary_unary if query.call.chunk is None else channel.unary_stream
            self._methods[key] = opened(key[1], bytes, bytes)  # as they are
        return self._methods[key]


def _channel(connection: Connection, options: Sequence[tuple[str, str | int]]) -> grpc.aio.Channel:
    if connection.credentials is None:
        return grpc.aio.insecure_channel(connection.target, options)
    return grpc.aio.secure_channel(connection.target, connection.credentials, options)
