"""Hugging Face ``generate`` on the same weights.

That it is the same model is checked in float32 before anything is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import typer
from transformers import GenerationConfig, M2M100ForConditionalGeneration

from dragoman_model.batching import pad
from dragoman_model.checkpoint import load_model
from dragoman_model.search import translate_ids
from dragoman_model.transformer import Transformer
from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.hugging_face_model import hugging_face_model
from tests.bench.models import bench_model
from tests.bench.options import BEAMS, MODELS, OUTPUT, ROUNDS, Models, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.random_base import LONGEST
from tests.bench.results import Result, Table
from tests.bench.rounds import Spread, interleave, ratios
from tests.bench.workload import Workload, workload

BATCHES = (1, 32)
_CHECKED = 16
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main(rounds: Rounds = ROUNDS, sentences: int = 64, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    measured: dict[str, Any] = {}
    rows: list[list[str]] = []
    groups: list[str] = []
    charted: dict[str, list[Spread | None]] = {"Dragoman int8": [], **{f"generate, {dtype}": [] for dtype in _DTYPES}}
    for name in model:
        work = workload(name).part(sentences)
        theirs = _loaded(name, work.sources[:_CHECKED])
        for decoding, beam in BEAMS.items():
            for batch in BATCHES:
                found = _measure(name, theirs, work, beam=beam, batch=batch, rounds=rounds)
                measured[f"{name}, {decoding}, batch {batch}"] = {
                    "tokens_per_second": found,
                    "threads": torch.get_num_threads(),
                }
                ours = Spread.of(found["ours"])
                groups.append(f"{name}\n{decoding}\nbatch {batch}")
                charted["Dragoman int8"].append(ours)
                for dtype in _DTYPES:
                    spread, ratio = Spread.of(found[dtype]), ratios(found["ours"], found[dtype])
                    rows.append([name, decoding, str(batch), dtype, ours.text(0), spread.text(0), ratio.text(1)])
                    charted[f"generate, {dtype}"].append(spread)
    columns = [
        "model",
        "decoding",
        "batch",
        "their precision",
        "Dragoman int8, tokens/s",
        "generate, tokens/s",
        "ratio",
    ]
    Result(
        "hugging_face",
        {"rounds": rounds, "sentences": sentences, "ours": asdict(_settings())},
        measured,
        [Table("Hugging Face generate, the same weights (eager)", columns, rows)],
        [
            "Batch 1: one sentence after the other on both sides. Batch 32: theirs are sorted by length and padded.",
            "They have one thread or all, whichever is faster for float32.",
            "Greedy tokens in float32 were compared with PyTorch's before: all equal.",
        ],
    ).publish(output)
    bars(
        output / "hugging_face.png",
        groups,
        charted,
        title="Dragoman and Hugging Face generate, the same weights",
        label="target tokens a second",
        logarithmic=True,
    )


def _loaded(name: str, sources: Sequence[Sequence[int]]) -> dict[str, M2M100ForConditionalGeneration]:
    """In both precisions, after float32's greedy tokens were compared with PyTorch's."""
    ours = load_model(bench_model(name).checkpoint, Transformer).model
    made = hugging_face_model(ours)
    expected = translate_ids(ours, sources, max_length=LONGEST)
    found = generate(made, sources, beam=1)
    assert found == expected, f"{name}: M2M100 does not give the tokens of the checkpoint"
    half = hugging_face_model(ours).to(torch.bfloat16)
    return {"float32": made, "bfloat16": half}


@torch.inference_mode()
def generate(model: M2M100ForConditionalGeneration, sources: Sequence[Sequence[int]], *, beam: int) -> list[list[int]]:
    """Target ids of one batch, without begin- and end-of-sentence and padding."""
    config = model.config
    ids = pad(sources, config.pad_token_id)
    mask = pad([[1] * len(source) for source in sources], 0)
    options = GenerationConfig(
        max_new_tokens=LONGEST,
        num_beams=beam,
        do_sample=False,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=options).tolist()
    return [_target(row[1:], config.eos_token_id) for row in rows]


def _target(row: list[int], eos: int) -> list[int]:
    return row[: row.index(eos)] if eos in row else row


def _measure(
    name: str,
    theirs: dict[str, M2M100ForConditionalGeneration],
    work: Workload,
    *,
    beam: int,
    batch: int,
    rounds: int,
) -> dict[str, list[float]]:
    sources = sorted(work.sources, key=len) if batch > 1 else work.sources[: max(8, len(work.sources) // 4)]

    def timed(dtype: str) -> float:
        began, tokens = time.perf_counter(), 0
        for begin in range(0, len(sources), batch):
            tokens += sum(map(len, generate(theirs[dtype], sources[begin : begin + batch], beam=beam)))
        return tokens / (time.perf_counter() - began)

    torch.set_num_threads(_best_threads(theirs["float32"], sources[:batch], beam))
    with Ours(bench_model(name).repository, name, _settings()) as ours:

        def engine() -> float:
            return ours.decode(sources, beam=beam, in_flight=batch).tokens_per_second

        sides = {"ours": engine, "float32": lambda: timed("float32"), "bfloat16": lambda: timed("bfloat16")}
        return interleave(sides, rounds)


def _best_threads(model: M2M100ForConditionalGeneration, sources: Sequence[Sequence[int]], beam: int) -> int:
    """One thread or one for each core, whichever is faster: small models do not always gain."""
    tried = {}
    for threads in dict.fromkeys([1, usable_cores()]):
        torch.set_num_threads(threads)
        generate(model, sources, beam=beam)
        began = time.perf_counter()
        generate(model, sources, beam=beam)
        tried[threads] = time.perf_counter() - began
    return min(tried, key=lambda threads: tried[threads])


def _settings() -> OurSettings:
    return OurSettings(lanes=usable_cores())


if __name__ == "__main__":
    typer.run(main)
