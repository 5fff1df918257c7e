"""What a lane does outside onnxruntime's runs, at saturation: its share of the time, and which functions take it.

The shares are measured with a clock around every run and nothing else; the functions by a profile of one lane, in a
run of its own, since a profiler makes Python slower than it is.
"""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import typer

from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.models import bench_model
from tests.bench.options import BEAMS, MODELS, OUTPUT, ROUNDS, Models, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.results import ROOT, Result, Table, verdict
from tests.bench.rounds import Spread, quiet
from tests.bench.session_clock import Clock, Shares, shares, watch
from tests.bench.workload import Workload, workload

TARGET = 0.10
_FUNCTIONS = 25


def main(rounds: Rounds = ROUNDS, sentences: int = 1500, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    measured: dict[str, Any] = {}
    rows, slow = [], []
    charted: dict[str, list[Spread]] = {"wall": [], "processor": []}
    for name in model:
        work = workload(name).part(sentences)
        for decoding, beam in BEAMS.items():
            found = [_shares(name, work, beam) for _ in range(rounds)]
            functions = _functions(name, work.part(sentences // 3), beam)
            measured[f"{name}, {decoding}"] = {
                "workload": work.facts(),
                "lanes": [[asdict(lane) for lane in lanes] for lanes in found],
                "functions": functions,
            }
            wall = Spread.of([_mean(lanes, "wall_outside") for lanes in found])
            cpu = Spread.of([_mean(lanes, "cpu_outside") for lanes in found])
            charted["wall"].append(wall)
            charted["processor"].append(cpu)
            runs = sum(lane.runs for lane in found[-1])
            micros = sum(lane.cpu * lane.cpu_outside for lane in found[-1]) / runs * 1e6
            met = verdict(wall.median, TARGET, at_most=True)
            rows.append([name, decoding, wall.text(3), cpu.text(3), f"{micros:.0f}", f"<= {TARGET}", met])
            slow += [[name, decoding, *function.values()] for function in functions[:6]]
    Result(
        "profile",
        {"rounds": rounds, "sentences": sentences, "lanes": usable_cores(), "max_rows": OurSettings(1).max_rows},
        measured,
        [
            Table(
                "Outside onnxruntime's run, at saturation",
                ["model", "decoding", "share, wall", "share, processor", "us of a run", "target", "met"],
                rows,
            ),
            Table(
                "Functions that take most of it (one lane, under a profiler)",
                ["model", "decoding", "function", "calls", "own time, ms", "share of all Python"],
                [[str(cell) for cell in row] for row in slow],
            ),
        ],
        ["Wall time outside holds the waits for the interpreter lock, which the other lane's Python has meanwhile."],
    ).publish(output)
    groups = [f"{name}\n{decoding}" for name in model for decoding in BEAMS]
    bars(
        output / "profile.png",
        groups,
        {f"share of {kind} time": list(spreads) for kind, spreads in charted.items()},
        title="Outside onnxruntime's run, at saturation (target: at most 0.10)",
        label="share",
    )


def _shares(name: str, work: Workload, beam: int) -> list[Shares]:
    clock = Clock()
    with Ours(bench_model(name).repository, name, OurSettings(usable_cores())) as ours:
        _watch(ours, clock)
        ours.decode(work.sources[:64], beam=beam)
        clock.spans.clear()
        with quiet():
            ours.decode(work.sources, beam=beam)
        found = [spans for spans in clock.spans.values() if len(spans) > 1]
    return [shares(spans) for spans in found]


def _functions(name: str, work: Workload, beam: int) -> list[dict[str, object]]:
    """The functions of a lane with most time of their own; onnxruntime's runs are left out."""
    clock = Clock(profile=cProfile.Profile())
    with Ours(bench_model(name).repository, name, OurSettings(1)) as ours:
        _watch(ours, clock)
        ours.decode(work.sources, beam=beam)
        profile = clock.profile
        assert profile is not None
        profile.create_stats()
    entries = cast(dict[tuple[str, int, str], tuple[int, int, float, float, Any]], vars(pstats.Stats(profile))["stats"])
    outside = {key: entry for key, entry in entries.items() if _is_counted(key)}
    total = sum(entry[2] for entry in outside.values())
    largest = sorted(outside, key=lambda key: -outside[key][2])[:_FUNCTIONS]
    return [
        {
            "function": _label(key),
            "calls": outside[key][1],
            "own_ms": round(outside[key][2] * 1e3, 2),
            "share": round(outside[key][2] / total, 3),
        }
        for key in largest
    ]


def _watch(ours: Ours, clock: Clock) -> None:
    for runtime in ours.runtimes():
        watch(runtime, clock)


def _is_counted(key: tuple[str, int, str]) -> bool:
    """Neither onnxruntime's own time, nor a wait for work, nor what measures."""
    path, _, function = key
    waits = "lock" in function and "acquire" in function
    return not (waits or "onnxruntime" in function + path or "time." in function or path.endswith("session_clock.py"))


def _label(key: tuple[str, int, str]) -> str:
    path, line, function = key
    if path == "~":
        return function
    where = Path(path)
    shown = where.relative_to(ROOT).as_posix() if where.is_relative_to(ROOT) else where.name
    return f"{shown}:{line} {function}"


def _mean(lanes: list[Shares], what: str) -> float:
    """Over the lanes, by their time."""
    weight = "wall" if what == "wall_outside" else "cpu"
    total = sum(float(getattr(lane, weight)) for lane in lanes)
    return sum(float(getattr(lane, what)) * float(getattr(lane, weight)) for lane in lanes) / total


if __name__ == "__main__":
    typer.run(main)
