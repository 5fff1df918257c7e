"""What gRPC costs: throughput through the server against the engine's own, and processor time of a call on each side.

The server is a process of its own and so is the client, here; they share the machine's cores, as the engine's own run
does not. Both are given the same sentences, and as many are under way at one time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import typer

from dragoman import AsyncClient, Client
from dragoman_server.machine import usable_cores
from tests.bench import grpc_floor
from tests.bench.charts import bars
from tests.bench.models import BASE, DEFAULT, bench_model
from tests.bench.options import OUTPUT, ROUNDS, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.results import Result, Table, verdict
from tests.bench.rounds import Spread, interleave, ratios
from tests.bench.server import Server
from tests.bench.workload import Workload, workload

CALLERS, WINDOW = 32, 512
_TIMEOUT = 300.0


@dataclass(frozen=True)
class Run:
    """One pass over the sentences."""

    sentences: int
    seconds: float
    client_cpu: float
    """Seconds of this process."""
    server_cpu: float
    """Seconds of the server's; 0 where there is none."""

    @property
    def per_second(self) -> float:
        """Sentences a second: the same sentences on both sides, so the same tokens."""
        return self.sentences / self.seconds

    def micros(self, cpu: float) -> float:
        """Microseconds of a sentence."""
        return cpu / self.sentences * 1e6


def main(rounds: Rounds = ROUNDS, base_sentences: int = 1000, sentences: int = 3000, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    base, small = workload(BASE).part(base_sentences), workload(DEFAULT).part(sentences)
    measured = {
        "base, 32 callers": _measure(BASE, base, _callers, CALLERS, rounds),
        "deu-eng, TranslateMany": _measure(DEFAULT, small, _many, WINDOW, rounds),
        "deu-eng, 32 callers": _measure(DEFAULT, small, _callers, CALLERS, rounds),
        "deu-eng, one caller": _measure(DEFAULT, small.part(sentences // 5), _one_caller, 1, rounds),
    }
    targets = {"base, 32 callers": 0.85, "deu-eng, TranslateMany": 0.8}
    rows, costs = [], []
    shares: list[Spread] = []
    for name, found in measured.items():
        wire, own = ([Run(**run) for run in found[side]] for side in ("grpc", "engine"))
        share = ratios([run.per_second for run in wire], [run.per_second for run in own])
        shares.append(share)
        target = targets.get(name)
        met = ["", ""] if target is None else [f">= {target}", verdict(share.median, target)]
        speeds = [Spread.of([run.per_second for run in runs]).text(0) for runs in (wire, own)]
        rows.append([name, *speeds, share.text(), *met])
        engine = Spread.of([run.micros(run.client_cpu) for run in own])
        served = Spread.of([run.micros(run.server_cpu) for run in wire])
        client = Spread.of([run.micros(run.client_cpu) for run in wire])
        beyond = f"{served.median - engine.median:,.0f}"
        costs.append([name, client.text(0), served.text(0), engine.text(0), beyond])
    floor = [Run(sentences, *grpc_floor.call(CALLERS, sentences)) for _ in range(rounds)]
    client, served = (
        Spread.of([run.micros(getattr(run, side)) for run in floor]) for side in ("client_cpu", "server_cpu")
    )
    costs.append([f"gRPC with a handler that does nothing, {CALLERS} callers", client.text(0), served.text(0), "", ""])
    measured["gRPC alone"] = {"grpc": [asdict(run) for run in floor]}
    Result(
        "grpc_efficiency",
        {"rounds": rounds, "callers": CALLERS, "window": WINDOW, "ours": asdict(_settings())},
        measured,
        [
            Table(
                "Through gRPC",
                ["what", "gRPC, sentences/s", "engine alone, sentences/s", "share", "target", "met"],
                rows,
            ),
            Table(
                "Processor time of a sentence, microseconds",
                ["what", "client", "server", "engine alone", "server beyond the engine"],
                costs,
            ),
        ],
        ["Greedy, mixed lengths. The engine alone has the same number of sentences in flight, but no text to encode."],
    ).publish(output)
    bars(
        output / "grpc_efficiency.png",
        [name.replace(", ", "\n") for name in measured if "engine" in measured[name]],
        {"share of the engine's own throughput": list(shares)},
        title="Throughput through gRPC, as a share of the engine's own",
        label="share",
    )


def _settings() -> OurSettings:
    return OurSettings(lanes=usable_cores())


Caller = Callable[[str, Workload, str], int]
"""Translates the workload through the server at an address, by a model's name; returns the number of answers."""


def _measure(name: str, work: Workload, call: Caller, in_flight: int, rounds: int) -> dict[str, Any]:
    where = bench_model(name)
    with Server(where.repository, _settings()) as server, Ours(where.repository, name, _settings()) as ours:

        def through_grpc() -> Run:
            before, cpu, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
            count = call(server.address, work, name)
            seconds, own = time.perf_counter() - began, time.process_time() - cpu
            assert count == len(work.texts)
            return Run(count, seconds, own, server.cpu_seconds() - before)

        def engine() -> Run:
            decoded = ours.decode(work.sources, beam=1, in_flight=in_flight)
            return Run(len(work.sources), decoded.seconds, decoded.cpu_seconds, 0.0)

        found = interleave({"grpc": through_grpc, "engine": engine}, rounds)
    return {"workload": work.facts(), **{side: [asdict(run) for run in runs] for side, runs in found.items()}}


def _callers(address: str, work: Workload, model: str) -> int:
    """CALLERS coroutines, each with one call under way."""

    async def run() -> int:
        waiting = iter(work.texts)
        answered = 0

        async def caller(client: AsyncClient) -> None:
            nonlocal answered
            for text in waiting:
                await client.translate(text, target="de", model=model, segmentation="none")
                answered += 1

        async with AsyncClient(address, timeout=_TIMEOUT) as client:
            await asyncio.gather(*(caller(client) for _ in range(CALLERS)))
        return answered

    return asyncio.run(run())


def _one_caller(address: str, work: Workload, model: str) -> int:
    with Client(address, timeout=_TIMEOUT) as client:
        return sum(
            bool(client.translate(text, target="de", model=model, segmentation="none").hypotheses)
            for text in work.texts
        )


def _many(address: str, work: Workload, model: str) -> int:
    with Client(address, timeout=_TIMEOUT) as client:
        found = client.translate_many(work.texts, target="de", model=model, segmentation="none", concurrency=WINDOW)
        return sum(bool(translation.hypotheses) for translation in found)


if __name__ == "__main__":
    typer.run(main)
