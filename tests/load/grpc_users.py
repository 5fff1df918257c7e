"""Users of locust that talk gRPC: what they ask and how they check it is the load generator's own.

An answer under load must be the one that its request has alone; another counts as a failure, as an error does. A stream
reports three more rows besides its end-to-end time: TTFT (first chunk), TPOT (mean time of a token after it) and ITL
(between two chunks).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import grpc
from locust import User, constant, events, task  # patches sockets and threads for gevent
from locust.env import Environment
from locust.runners import MasterRunner

from dragoman import TLS, Client, DragomanError
from dragoman.connection import DEFAULT_ADDRESS, Connection, connection
from dragoman.load.answers import Expected
from dragoman.load.queries import Query
from dragoman.load.workload import Workload, workload

_TIMEOUT = 30.0
_DIFFERENT = 60
"""Requests of each kind."""
_DAY = 600.0
"""Seconds of a day where no run time is given."""


class WrongAnswer(Exception):
    """The answer differs from the one that the request has alone."""


@dataclass
class Bench:
    """What all users of a test share: made once, by one client, before they come."""

    workloads: dict[str, Workload]
    expected: Expected
    day: float
    """Seconds."""
    began: float = 0.0

    def phase(self) -> float:
        """The time of the day: 0 up to 1."""
        return (time.perf_counter() - self.began) / self.day % 1.0


class Link:
    """One user's connection."""

    def __init__(self, how: Connection) -> None:
        options = [*how.options, ("grpc.use_local_subchannel_pool", 1)]
        self._metadata = how.metadata
        if how.credentials is None:
            self._channel = grpc.insecure_channel(how.target, options)
        else:
            self._channel = grpc.secure_channel(how.target, how.credentials, options)

    def ask(self, query: Query) -> tuple[list[bytes], list[float]]:
        """The messages that the call was answered with, and when they came; raises grpc.RpcError."""
        if query.call.chunk is None:
            call = self._channel.unary_unary(query.call.path, bytes, bytes)
            return [call(query.message, timeout=_TIMEOUT, metadata=self._metadata)], [time.perf_counter()]
        messages, times = [], []
        stream = self._channel.unary_stream(query.call.path, bytes, bytes)
        for message in stream(query.message, timeout=_TIMEOUT, metadata=self._metadata):
            messages.append(message)
            times.append(time.perf_counter())
        return messages, times

    def close(self) -> None:
        """The connection ends."""
        self._channel.close()


def ask_alone(environment: Environment, **_: Any) -> None:
    """Ask every request by itself, one after the other, before the test begins; exits where that fails."""
    if isinstance(environment.runner, MasterRunner):
        return  # has no users
    names = sorted({user.workload for user in environment.user_classes if issubclass(user, LoadUser)})
    try:
        with Client(_address(environment), token=_token(), tls=_tls()) as client:
            models = [model for model in client.models() if model.state == "ready"]
        workloads = {name: workload(name, models, seed=1, size=_DIFFERENT) for name in names}
        expected = Expected({model.name: model.precision for model in models})
        link = Link(connection(_address(environment), _token(), _tls()))
        for query in dict.fromkeys(query for each in workloads.values() for query in each.queries()):
            expected.keep(query, link.ask(query)[0])
        link.close()
    except (DragomanError, grpc.RpcError) as error:
        raise SystemExit(f"no answers to compare with: {error}") from None  # another error would only be logged
    given = getattr(environment.parsed_options, "run_time", None)
    LoadUser.bench = Bench(workloads, expected, float(given or _DAY))


def begin_the_day(environment: Environment, **_: Any) -> None:
    """The day begins with the test."""
    LoadUser.bench.began = time.perf_counter()


events.init.add_listener(ask_alone)  # type: ignore[no-untyped-call]
events.test_start.add_listener(begin_the_day)  # type: ignore[no-untyped-call]


def _address(environment: Environment) -> str:
    return environment.host or os.environ.get("DRAGOMAN_SERVER", DEFAULT_ADDRESS)


def _token() -> str | None:
    """As the command line finds it."""
    path = os.environ.get("DRAGOMAN_TOKEN_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get("DRAGOMAN_TOKEN")


def _tls() -> bool | TLS:
    authorities = os.environ.get("DRAGOMAN_TLS_CA")
    return TLS(ca=authorities) if authorities else False


class LoadUser(User):
    """One user with one request under way; subclasses say of which workload."""

    abstract = True
    workload: ClassVar[str]
    bench: ClassVar[Bench]
    wait_time = constant(0)
    _users = 0

    def on_start(self) -> None:
        """Connect."""
        LoadUser._users += 1
        self._random = Random(f"user {LoadUser._users}")
        self._link = Link(connection(_address(self.environment), _token(), _tls()))

    def on_stop(self) -> None:
        """Disconnect."""
        self._link.close()

    @task
    def ask(self) -> None:
        """Send the next request, check its answer and report both."""
        bench = self.bench
        query = bench.workloads[self.workload].draw(self._random, bench.phase())
        began = time.perf_counter()
        try:
            messages, times = self._link.ask(query)
        except grpc.RpcError as error:
            self._report("gRPC", query.kind, time.perf_counter() - began, exception=error)
            return
        wrong = bench.expected.fault(query, messages) is not None
        ended = times[-1] if times else time.perf_counter()
        fault = WrongAnswer(query.kind) if wrong else None
        self._report("gRPC", query.kind, ended - began, sum(map(len, messages)), fault)
        if query.call.chunk is not None and not wrong:
            self._report_stream(query, began, times)

    def _report_stream(self, query: Query, began: float, times: Sequence[float]) -> None:
        self._report("TTFT", query.kind, times[0] - began)
        tokens = self.bench.expected.tokens(query)
        if tokens > 1:
            self._report("TPOT", query.kind, (times[-1] - times[0]) / (tokens - 1))
        for before, after in pairwise(times):
            self._report("ITL", query.kind, after - before)

    def _report(
        self, what: str, kind: str, seconds: float, length: int = 0, exception: Exception | None = None
    ) -> None:
        self.environment.events.request.fire(
            request_type=what,
            name=kind,
            response_time=1e3 * seconds,
            response_length=length,
            exception=exception,
            context={},
        )
