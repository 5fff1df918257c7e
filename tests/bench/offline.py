"""The offline table: the real model over Tatoeba's test set, beam 4, batch 32: target tokens/s, peak memory, BLEU.

Speed is net of start-up: both sides are loaded and warm. Memory is the peak of a process for each side and round,
start-up included. Batch 32 is CTranslate2's ``max_batch_size`` in sentences; our lanes have room for 32 x 4 rows in
all.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from dragoman_model.metrics import translation_scores
from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.ctranslate2_model import tokens
from tests.bench.memory import measured
from tests.bench.models import DEFAULT, BenchModel, bench_model
from tests.bench.options import OUTPUT, ROUNDS, Output, Rounds, Sentences
from tests.bench.ours import Decoded, Ours, OurSettings
from tests.bench.random_base import LONGEST
from tests.bench.results import Result, Table, verdict
from tests.bench.rounds import Spread, interleave, ratios
from tests.bench.theirs import Theirs, TheirSettings, thread_choices
from tests.bench.workload import Workload, workload

BEAM, BATCH = 4, 32
_DIRECTIONS = (("en", "de"), ("de", "en"))


def main(rounds: Rounds = ROUNDS, sentences: Sentences = None, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    where, cores = bench_model(DEFAULT), usable_cores()
    our_settings = OurSettings(lanes=cores, max_rows=max(1, BATCH // cores) * BEAM)
    data: dict[str, Any] = {}
    rows: list[list[str]] = []
    charted: list[tuple[str, Spread, Spread]] = []
    for source, target in _DIRECTIONS:
        # In the file's order, as CTranslate2's own benchmark reads a file.
        work = workload(DEFAULT, shuffled=False, source=source, target=target).part(sentences)
        found = _measure(where, work, our_settings, rounds)
        data[f"{source}-{target}"] = found
        ours, theirs = (Spread.of(found["tokens_per_second"][side]) for side in ("ours", "theirs"))
        ratio = ratios(found["tokens_per_second"]["ours"], found["tokens_per_second"]["theirs"])
        peaks = [[job["peak_bytes"] / 1e6 for job in found["memory"][side]] for side in ("ours", "theirs")]
        memory = ratios(*peaks)
        name = f"{source}-{target}"
        rows += [
            [name, "target tokens/s", ours.text(0), theirs.text(0), ratio.text(), ">= 1.5", verdict(ratio.median, 1.5)],
            [
                name,
                "peak memory, MB",
                *(Spread.of(side).text(0) for side in peaks),
                memory.text(),
                "<= 1",
                verdict(memory.median, 1.0, at_most=True),
            ],
        ]
        if found["bleu"]:
            bleu = [found["bleu"][side] for side in ("ours", "theirs")]
            met = verdict(bleu[0], bleu[1] - 0.3)
            difference = f"{bleu[0] - bleu[1]:+.2f}"
            rows.append([name, "BLEU", f"{bleu[0]:.2f}", f"{bleu[1]:.2f}", difference, ">= -0.3", met])
        charted.append((name, ours, theirs))
    columns = ["direction", "", "Dragoman", "CTranslate2", "ratio or difference", "target", "met"]
    Result(
        "offline",
        {"rounds": rounds, "sentences": sentences, "beam": BEAM, "batch": BATCH, "ours": asdict(our_settings)},
        data,
        [Table(f"Offline: deu-eng, beam {BEAM}, batch {BATCH}", columns, rows)],
        [
            "Speed is net of start-up. Memory: the largest resident size of a process that does nothing else,"
            " from its start to its end, without PyTorch, sources given as ids.",
        ],
    ).publish(output)
    bars(
        output / "offline.png",
        [group for group, _, _ in charted],
        {"Dragoman int8": [ours for _, ours, _ in charted], "CTranslate2 int8": [theirs for _, _, theirs in charted]},
        title=f"Offline: deu-eng over the test set, beam {BEAM}, batch {BATCH}",
        label="target tokens a second",
    )


def _measure(where: BenchModel, work: Workload, our_settings: OurSettings, rounds: int) -> dict[str, Any]:
    written = [tokens(source) for source in work.sources]
    theirs = Theirs(where.ctranslate2)
    choices = [TheirSettings(*threads, "examples", BATCH) for threads in thread_choices(usable_cores())]
    best, tried = theirs.fastest(written, choices, beam=BEAM, repeats=2)
    theirs.forget(keep=[best])
    with Ours(where.repository, where.name, our_settings) as ours:
        found: dict[str, list[Decoded]] = interleave(
            {
                "ours": lambda: ours.decode(work.sources, beam=BEAM),
                "theirs": lambda: theirs.decode(written, best, beam=BEAM),
            },
            rounds,
        )
        codec = ours.host.codec
        texts = {side: [codec.decode(ids) for ids in runs[0].outputs] for side, runs in found.items()}
    theirs.forget()
    bleu: dict[str, Any] = {}
    if work.references is not None:
        for side, outputs in texts.items():
            scores = translation_scores(outputs, [[reference] for reference in work.references])
            bleu[side], bleu["signature"] = scores.bleu, scores.bleu_signature
    job = {"name": where.name, "beam": BEAM, "max_length": LONGEST, "sources": [list(s) for s in work.sources]}
    jobs = {
        "ours": {**job, "side": "ours", "model": str(where.repository), "settings": asdict(our_settings)},
        "theirs": {**job, "side": "theirs", "model": str(where.ctranslate2), "settings": asdict(best)},
    }
    memory: dict[str, list[dict[str, Any]]] = {side: [] for side in jobs}
    for side in [*jobs] * rounds:
        memory[side].append(measured(jobs[side]))
    return {
        "workload": work.facts(),
        "tokens_per_second": {side: [run.tokens_per_second for run in runs] for side, runs in found.items()},
        "seconds": {side: [run.seconds for run in runs] for side, runs in found.items()},
        "target_tokens": {side: runs[0].tokens for side, runs in found.items()},
        "bleu": bleu,
        "memory": memory,
        "their_settings": {**asdict(best), "tried": tried},
    }


if __name__ == "__main__":
    typer.run(main)
