"""One client: sentences one after the other, the engine's latency p50 and p95; each side with its best threads."""

from __future__ import annotations

from typing import Any

import typer

from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.ctranslate2_model import tokens
from tests.bench.models import bench_model
from tests.bench.options import BEAMS, MODELS, OUTPUT, ROUNDS, Models, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.results import Result, Table, verdict
from tests.bench.rounds import Spread, interleave, percentile, ratios
from tests.bench.theirs import Theirs, TheirSettings
from tests.bench.workload import workload

TARGET = 0.4


def main(rounds: Rounds = ROUNDS, sentences: int = 200, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    measured: dict[str, Any] = {}
    rows: list[list[str]] = []
    charted: list[tuple[str, Spread, Spread]] = []
    for name in model:
        for decoding, beam in BEAMS.items():
            found = _measure(name, beam, rounds, sentences)
            measured[f"{name}, {decoding}"] = found
            p50 = {side: Spread.of([percentile(r, 0.5) * 1e3 for r in found[side]]) for side in ("ours", "theirs")}
            p95 = {side: Spread.of([percentile(r, 0.95) * 1e3 for r in found[side]]) for side in ("ours", "theirs")}
            ratio = ratios(*([percentile(r, 0.5) for r in found[side]] for side in ("ours", "theirs")))
            rows.append(
                [
                    name,
                    decoding,
                    p50["ours"].text(),
                    p50["theirs"].text(),
                    ratio.text(),
                    f"<= {TARGET}",
                    verdict(ratio.median, TARGET, at_most=True),
                    f"{p95['ours'].median:.2f}",
                    f"{p95['theirs'].median:.2f}",
                    f"{found['our_settings']['lane_threads']}",
                    found["their_settings"]["text"],
                ]
            )
            charted.append((f"{name}\n{decoding}", p50["ours"], p50["theirs"]))
    columns = ["model", "decoding", "Dragoman p50, ms", "CTranslate2 p50, ms", "ratio", "target", "met"]
    extra = ["Dragoman p95, ms", "CTranslate2 p95, ms", "Dragoman threads", "CTranslate2 threads"]
    Result(
        "latency",
        {"rounds": rounds, "sentences": sentences, "lanes": 1},
        measured,
        [Table("One client, latency of the engine", [*columns, *extra], rows)],
        [
            "One lane; both have one thread or as many as there are cores, whichever is the better.",
            "Percentiles over the sentences of a round; medians of the rounds, least and largest in brackets.",
        ],
    ).publish(output)
    bars(
        output / "latency.png",
        [group for group, _, _ in charted],
        {"Dragoman int8": [ours for _, ours, _ in charted], "CTranslate2 int8": [theirs for _, _, theirs in charted]},
        title="One client: latency of the engine, p50 (less is better)",
        label="milliseconds",
        logarithmic=True,
    )


def _measure(name: str, beam: int, rounds: int, sentences: int) -> dict[str, Any]:
    where, work = bench_model(name), workload(name).part(sentences)
    written = [tokens(source) for source in work.sources]
    theirs = Theirs(where.ctranslate2)
    tried = {}
    tried_threads = list(dict.fromkeys([1, usable_cores()]))
    for threads in tried_threads:
        settings = TheirSettings(1, threads)
        theirs.latencies(written[:8], settings, beam=beam)
        tried[settings] = percentile(theirs.latencies(written[: sentences // 3 + 1], settings, beam=beam), 0.5)
    best = min(tried, key=lambda settings: tried[settings])
    theirs.forget(keep=[best])
    ours_tried = {}
    for threads in tried_threads:
        with Ours(where.repository, name, OurSettings(lanes=1, lane_threads=threads)) as ours:
            ours.latencies(work.sources[:8], beam=beam)
            ours_tried[threads] = percentile(ours.latencies(work.sources[: sentences // 3 + 1], beam=beam), 0.5)
    threads = min(ours_tried, key=lambda number: ours_tried[number])
    with Ours(where.repository, name, OurSettings(lanes=1, lane_threads=threads)) as ours:
        found = interleave(
            {
                "ours": lambda: ours.latencies(work.sources, beam=beam),
                "theirs": lambda: theirs.latencies(written, best, beam=beam),
            },
            rounds,
        )
    return {
        "workload": work.facts(),
        **found,
        "our_settings": {
            "lane_threads": threads,
            "tried_p50_ms": {f"{number} threads": round(p * 1e3, 3) for number, p in ours_tried.items()},
        },
        "their_settings": {
            **theirs.facts(best),
            "text": f"{best.intra_threads}",
            "tried_p50_ms": {f"{s.intra_threads} threads": round(p * 1e3, 3) for s, p in tried.items()},
        },
    }


if __name__ == "__main__":
    typer.run(main)
