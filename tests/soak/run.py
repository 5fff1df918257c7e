"""``python -m tests.soak.run``: tens of thousands of mixed requests to a real server, and what it holds meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from dragoman import AsyncClient
from dragoman_server.machine import usable_cores
from tests.bench.results import FOLDER, ROOT, machine_facts, versions
from tests.integration.server_process import ServerProcess, free_port
from tests.soak import picture
from tests.soak.mixture import SHARES, Asker, ask, short_texts
from tests.soak.page import page
from tests.soak.verdict import faults
from tests.soak.watching import Sample, Watcher

_TEXTS = 2000
_TIMEOUT = 120.0
_QUIET_SECONDS = 30.0
"""At most this long until the idle server holds nothing any more."""
_STABLE_SECONDS = 3.0
_POLL_SECONDS = 0.5
_KEPT_FAILURES = 20


@dataclass(frozen=True)
class Settings:
    """What was asked of the soak itself."""

    requests: int
    callers: int
    seed: int


@dataclass
class Soak:
    """What was asked, and what was seen."""

    asked: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    idle: dict[str, Sample] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """That have ended."""
        return self.asked.total()


def main(
    requests: Annotated[int, typer.Option(min=100, help="How many in all.")] = 50_000,
    callers: Annotated[int, typer.Option(min=1, help="That ask at one time.")] = 48,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two samples.")] = 5.0,
    seed: int = 1,
    output: Annotated[Path, typer.Option(help="Where soak.json, soak.png and soak.md go.")] = FOLDER,
) -> None:
    """The exit status is 1 where a request failed, something is still held, or memory grew."""
    settings = Settings(requests, callers, seed)
    http = f"127.0.0.1:{free_port()}"
    with ServerProcess(ROOT / "models", "--http-port", http.rpartition(":")[2], "--log-level", "error") as server:
        address = server.wait_ready()
        watcher = Watcher(server.process.pid, http)
        soak = asyncio.run(_soak(address, watcher, settings, every))
    found = faults(soak.idle, soak.failures)
    _publish(soak, settings, found, output)
    for fault in found:
        typer.echo(fault, err=True)
    typer.echo(f"{soak.requests:,} requests in {soak.seconds:,.0f} s: {'FAILED' if found else 'all is well'}")
    if found:
        raise typer.Exit(1)


async def _soak(address: str, watcher: Watcher, settings: Settings, every: float) -> Soak:
    soak, requests = Soak(), settings.requests
    soak.idle["before"] = watcher.sample(0)
    began = time.monotonic()
    for half, name in enumerate(("halfway", "end")):
        count = requests // 2 if half else requests - requests // 2
        # A client of its own, closed after the half: its connection is not counted.
        async with AsyncClient(address, timeout=_TIMEOUT) as client:
            asker = Asker(client, address, short_texts(_TEXTS))
            sampling = asyncio.create_task(_sample(soak, watcher, every, requests))
            try:
                await _half(soak, asker, count, settings.callers, random.Random(f"{settings.seed} {half}"))
            finally:
                sampling.cancel()
        soak.idle[name] = await _when_quiet(watcher, lambda: soak.requests)
        soak.samples.append(soak.idle[name])
    soak.seconds = time.monotonic() - began
    return soak


async def _half(soak: Soak, asker: Asker, count: int, callers: int, chance: random.Random) -> None:
    kinds = chance.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    waiting = iter([(kind, random.Random(chance.getrandbits(64))) for kind in kinds])

    async def caller() -> None:
        for kind, own in waiting:
            failure = await ask(kind, asker, own)
            soak.asked[kind.__name__] += 1
            if failure is not None:
                soak.failures.append(failure)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def _sample(soak: Soak, watcher: Watcher, every: float, requests: int) -> None:
    while True:
        one = await asyncio.to_thread(watcher.sample, soak.requests)
        soak.samples.append(one)
        typer.echo(
            f"{one.seconds:7.0f} s  {one.requests:6,} of {requests:,}  {one.rss:6.1f} MiB resident, "
            f"{one.private_dirty:6.1f} private  {one.threads} threads  {one.files} files  "
            f"{one.rows_used} rows used  {one.waiting} waiting  {len(soak.failures)} failed",
            err=True,
        )
        await asyncio.sleep(every)


async def _when_quiet(watcher: Watcher, requests: Callable[[], int]) -> Sample:
    """The server when it holds no request any more, and for a while no file or thread comes or goes.

    Or as it is after half a minute.
    """
    last = time.monotonic() + _QUIET_SECONDS
    since, seen = time.monotonic(), (-1, -1)
    while True:
        one = await asyncio.to_thread(watcher.sample, requests())
        held = one.rows_used + one.waiting + one.running + one.calls
        if held or (one.files, one.threads) != seen:
            since, seen = time.monotonic(), (one.files, one.threads)
        if time.monotonic() > min(last, since + _STABLE_SECONDS):
            return one
        await asyncio.sleep(_POLL_SECONDS)


def _publish(soak: Soak, settings: Settings, found: list[str], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    content = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_facts(),
        "versions": versions(),
        "settings": {
            **asdict(settings),
            "lanes": usable_cores(),
            "shares": {kind.__name__: n for kind, n in SHARES.items()},
        },
        "seconds": round(soak.seconds, 1),
        "asked": dict(soak.asked),
        "failed": len(soak.failures),
        "failures": soak.failures[:_KEPT_FAILURES],
        "faults": found,
        "idle": {name: asdict(one) for name, one in soak.idle.items()},
        "samples": [asdict(one) for one in soak.samples],
    }
    (output / "soak.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    picture.draw(output / "soak.png", soak.samples)
    (output / "soak.md").write_text(page(content), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
