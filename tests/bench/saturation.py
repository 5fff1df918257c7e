"""Saturation: all sentences, of mixed lengths, are handed over at once to each side; target tokens a second.

CTranslate2 sorts them by length and cuts batches, in its best setting; our engine takes them as they come.
"""

from __future__ import annotations

from typing import Any

import typer

from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.ctranslate2_model import tokens
from tests.bench.models import bench_model
from tests.bench.options import BEAMS, MODELS, OUTPUT, ROUNDS, Models, Output, Rounds, Sentences
from tests.bench.ours import Decoded, Ours, OurSettings
from tests.bench.results import Result, Table, verdict
from tests.bench.rounds import Spread, interleave, ratios
from tests.bench.theirs import BATCHES, FINAL_TRIES, Theirs, TheirSettings, thread_choices
from tests.bench.workload import Workload, workload

TARGETS = {"greedy": 1.8, "beam 4": 2.0}


def main(rounds: Rounds = ROUNDS, sentences: Sentences = None, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    measured: dict[str, Any] = {}
    rows: list[list[str]] = []
    charted: list[tuple[str, Spread, Spread]] = []
    for name in model:
        work = workload(name).part(sentences)
        for decoding, beam in BEAMS.items():
            found = _measure(name, work, beam, rounds)
            measured[f"{name}, {decoding}"] = found
            ours, theirs, ratio = (Spread(*found[key]) for key in ("ours", "theirs", "ratio"))
            target = TARGETS[decoding]
            rows.append(
                [
                    name,
                    decoding,
                    ours.text(0),
                    theirs.text(0),
                    ratio.text(),
                    f">= {target}",
                    verdict(ratio.median, target),
                    found["our_settings"]["text"],
                    found["their_settings"]["text"],
                ]
            )
            charted.append((f"{name}\n{decoding}", ours, theirs))
    columns = ["model", "decoding", "Dragoman, tokens/s", "CTranslate2, tokens/s", "ratio", "target", "met"]
    table = Table("Saturation, mixed lengths", [*columns, "lanes x rows", "workers x threads, batch"], rows)
    Result(
        "saturation",
        {"rounds": rounds, "sentences": sentences},
        measured,
        [table],
        ["Medians of the rounds, least and largest in brackets; the ratio is taken round by round."],
    ).publish(output)
    bars(
        output / "saturation.png",
        [group for group, _, _ in charted],
        {"Dragoman int8": [ours for _, ours, _ in charted], "CTranslate2 int8": [theirs for _, _, theirs in charted]},
        title="Saturation, mixed lengths, all cores",
        label="target tokens a second",
    )


def _measure(name: str, work: Workload, beam: int, rounds: int) -> dict[str, Any]:
    where = bench_model(name)
    written = [tokens(source) for source in work.sources]
    theirs = Theirs(where.ctranslate2)
    choices = [TheirSettings(*threads, *batch) for threads in thread_choices(usable_cores()) for batch in BATCHES]
    best, tried = theirs.fastest(written, choices, beam=beam)
    theirs.forget(keep=[best])
    our_best, our_tried = fastest_of_ours(name, work, beam=beam)
    with Ours(where.repository, name, our_best) as ours:
        found: dict[str, list[Decoded]] = interleave(
            {
                "ours": lambda: ours.decode(work.sources, beam=beam),
                "theirs": lambda: theirs.decode(written, best, beam=beam),
            },
            rounds,
        )
        facts = ours.facts()
    wrong = {side: work.check(runs[0].outputs) for side, runs in found.items()}
    speeds = {side: [run.tokens_per_second for run in runs] for side, runs in found.items()}
    return {
        "workload": work.facts(),
        "tokens_per_second": speeds,
        "seconds": {side: [run.seconds for run in runs] for side, runs in found.items()},
        "outputs_of_wrong_length": wrong,
        "target_tokens": {side: runs[0].tokens for side, runs in found.items()},
        "ours": _list(Spread.of(speeds["ours"])),
        "theirs": _list(Spread.of(speeds["theirs"])),
        "ratio": _list(ratios(speeds["ours"], speeds["theirs"])),
        "our_settings": {**facts, "text": f"{our_best.lanes} x {our_best.max_rows}", "tried": our_tried},
        "their_settings": {**theirs.facts(best), "text": best.text(), "tried": tried},
    }


def fastest_of_ours(name: str, work: Workload, *, beam: int) -> tuple[OurSettings, dict[str, float]]:
    """The engine's setting with the best tokens/s, and that of every setting."""
    cores = usable_cores()
    tried: dict[OurSettings, float] = {}
    for settings in dict.fromkeys([OurSettings(1), *(OurSettings(cores, rows) for rows in (64, 128, 256, 512))]):
        with Ours(bench_model(name).repository, name, settings) as ours:
            ours.decode(work.sources[:32], beam=beam)
            tried[settings] = max(ours.decode(work.sources, beam=beam).tokens_per_second for _ in range(FINAL_TRIES))
    best = max(tried, key=lambda settings: tried[settings])
    return best, {f"{s.lanes} x {s.max_rows}": round(speed, 1) for s, speed in tried.items()}


def _list(spread: Spread) -> list[float]:
    return [spread.median, spread.low, spread.high]


if __name__ == "__main__":
    typer.run(main)
