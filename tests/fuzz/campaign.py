"""Many messages at a server's handlers, some of them over a socket: what it said, and what was wrong with that."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import structlog

from tests.fuzz.calling import Ending, call_handler, call_port
from tests.fuzz.judging import fault
from tests.fuzz.requests import Attempt, attempts
from tests.fuzz.served import Served, handlers, on_port, write_models

AT_ONCE = 24
"""Calls that are under way at one time."""
_CHECKED_EVERY = 2000
"""Calls after which everything has to be idle."""
_MOST_FINDINGS = 50


@dataclass
class Findings:
    """What a campaign has seen."""

    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By method, how the message was made, and status."""
    socket_calls: int = 0
    faults: list[str] = field(default_factory=list)
    """What must not be; each once."""
    logged: list[str] = field(default_factory=list)
    """Errors in the server's log."""
    seconds: float = 0.0
    idle_checks: int = 0
    memory: list[float] = field(default_factory=list)
    """MiB that the process held at each of these looks."""

    @property
    def messages(self) -> int:
        """Calls in all."""
        return sum(self.calls.values())

    def add(self, text: str) -> None:
        """One fault more, unless there are enough, or it is known."""
        if text not in self.faults and len(self.faults) < _MOST_FINDINGS:
            self.faults.append(text)


async def campaign(
    root: Path, *, seed: int, messages: int, socket_share: float, progress: Callable[[int], None] = lambda done: None
) -> Findings:
    """Send ``messages`` calls of the given seed; ``root`` is an empty folder for the models.

    The last ``socket_share`` of them go over a socket. Between thousands, nothing may be held by anybody.
    """
    found = Findings()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.add(f"event loop: {context}"))
    structlog.configure(processors=[_Errors(found)], logger_factory=structlog.ReturnLoggerFactory())
    await asyncio.to_thread(write_models, root)
    source = attempts(seed)
    over_socket = round(messages * socket_share)
    began = time.monotonic()
    async with handlers(root) as target:
        count = messages - over_socket
        await _run(found, target, source, lambda each: call_handler(target, each), messages=count, progress=progress)
    async with on_port(root) as server:
        await _run(found, server, source, lambda each: call_port(server, each), messages=over_socket, progress=progress)
    found.socket_calls = over_socket
    found.seconds = time.monotonic() - began
    for line in found.logged:
        found.add(f"log: {line}")
    return found


async def _run(
    found: Findings,
    target: Served,
    source: Iterator[Attempt],
    call: Callable[[Attempt], Awaitable[Ending]],
    *,
    messages: int,
    progress: Callable[[int], None],
) -> None:
    left = messages
    while left:
        count = min(left, _CHECKED_EVERY)
        left -= count
        turn = iter(list(itertools.islice(source, count)))
        await asyncio.gather(*(_worker(found, turn, call) for _ in range(AT_ONCE)))
        for held in await target.idle_faults():
            found.add(f"idle: {held}")
        found.idle_checks += 1
        found.memory.append(round(psutil.Process().memory_info().rss / (1 << 20), 1))
        progress(found.messages)


async def _worker(found: Findings, turn: Iterator[Attempt], call: Callable[[Attempt], Awaitable[Ending]]) -> None:
    for attempt in turn:
        ending = await call(attempt)
        code = grpc.StatusCode.OK if attempt.method.endless and _left(ending.code) else ending.code
        found.calls[attempt.method.name, attempt.how, code.name] += 1
        if ending.raised is not None:
            found.add(f"{attempt.method.name}: {type(ending.raised).__name__}: {ending.raised}: {_shown(attempt)}")
        elif wrong := fault(code, ending.details):
            found.add(f"{attempt.method.name}: {wrong}: {_shown(attempt)}")


def _left(code: grpc.StatusCode) -> bool:
    """A stream without an end is left by its caller."""
    return code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def _shown(attempt: Attempt) -> str:
    return " ".join(body.hex()[:600] for body in attempt.bodies)


class _Errors:
    """Keeps what the server logs as an error, and lets nothing out."""

    def __init__(self, found: Findings) -> None:
        self._found = found

    def __call__(self, logger: object, name: str, event: structlog.typing.EventDict) -> str:
        if name in {"error", "critical", "exception"} and len(self._found.logged) < _MOST_FINDINGS:
            error = event.get("exc_info")
            where = ""
            if isinstance(error, BaseException) and error.__traceback__ is not None:
                last = error.__traceback__
                while last.tb_next is not None:
                    last = last.tb_next
                where = f" at {Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}"
            self._found.logged.append(f"{event['event']}: {error!r}{where}")
        return ""
