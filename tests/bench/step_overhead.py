"""What a lane's step costs beside the model: every kind of decoding over a runtime that computes nothing.

``python -m tests.bench.step_overhead``. Times are medians over steps at 64 rows, and the best of five runs. No row
ends, but for the runs that are "refilled": requests of 8 to 24 steps, whose rows are taken at once. The row copies that
are asked for are counted, but not carried out; the scheduler is left out.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_server.compiled_kernels import chosen_library
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.joining import EncoderJoining
from dragoman_server.lane import Lane
from dragoman_server.request import Request
from dragoman_server.rows import Move
from dragoman_server.runtime import StepOutput
from dragoman_server.scheduler import Plan

ROWS, VOCABULARY, TOP_K, SOURCE, STEPS, OUTPUTS = 64, 8000, 16, 12, 60, 16

KINDS = {
    "greedy": DecodingOptions(max_length=200),
    "beam 4": DecodingOptions(max_length=200, beam_size=4),
    "beam 4, early stopping": DecodingOptions(max_length=200, beam_size=4, early_stopping=True),
    "top_k 10": DecodingOptions(max_length=200, sampling=SamplingOptions(seed=1, top_k=10)),
    "top_k 10, top_p 0.9, min_p 0.01": DecodingOptions(
        max_length=200, sampling=SamplingOptions(seed=1, top_k=10, top_p=0.9, min_p=0.01)
    ),
    "whole vocabulary": DecodingOptions(max_length=200, sampling=SamplingOptions(seed=1)),
    "repetition penalty": DecodingOptions(max_length=200, repetition_penalty=1.2),
    "no repeated 3-gram": DecodingOptions(max_length=200, no_repeat_ngram_size=3),
    "minimum length": DecodingOptions(max_length=200, min_length=199),
    "beam 4, repetition penalty": DecodingOptions(max_length=200, beam_size=4, repetition_penalty=1.2),
}


class NullRuntime:
    """Gives the same few outputs again and again; the time spent in it is counted, to be taken off."""

    max_rows, source_capacity, target_capacity, top_k = ROWS, 64, 256, TOP_K
    kernels = chosen_library("auto")

    def __init__(self, kernels: Path | None = None) -> None:
        self.kernels = kernels
        random = np.random.default_rng(0)
        self._outputs = []
        for _ in range(OUTPUTS):
            logits = random.normal(scale=3, size=(ROWS, VOCABULARY)).astype(np.float32)
            logits[:, :4] = -30  # no row ends
            log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :TOP_K].copy()
            self._outputs.append((np.take_along_axis(log_probs, ids, axis=1), ids, logits))
        self._steps = 0
        self.seconds = 0.0
        self.copied = 0

    def warm_up(self) -> None:
        """Nothing is slow."""

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Nothing is kept."""

    def copy(self, moves: Sequence[Move]) -> None:
        """Nothing to copy."""
        self.copied += len(moves)

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        """The next of the outputs."""
        began, rows = time.perf_counter(), len(tokens)
        self._steps += 1
        log_probs, ids, logits = self._outputs[self._steps % OUTPUTS]
        output = StepOutput(log_probs[:rows], ids[:rows], logits[:rows] if with_logits else None)
        self.seconds = time.perf_counter() - began
        return output


def numpy_seconds(options: DecodingOptions) -> float:
    """What the work on the logits alone takes, which no arrangement saves: a copy, and the sums of penalised rows."""
    logits = np.random.default_rng(0).normal(size=(ROWS, VOCABULARY)).astype(np.float32)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        rows = logits[np.arange(ROWS)]
        if options.penalises:
            greatest = rows.max(axis=1, keepdims=True)
            np.exp(rows - greatest).sum(axis=1, dtype=np.float64)
        if options.restricts or options.min_length:
            rows = rows[np.arange(ROWS)]
            rows.max(axis=1)
        for _ in range(options.candidates):
            rows.argmax(axis=1)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(options: DecodingOptions, lengths: tuple[int, int] | None = None) -> tuple[float, float]:
    """Median seconds of a step, and copied rows a step.

    With ``lengths``, requests end after so many steps (the least and the most) and others take their place at once.
    """
    runtime, seconds = NullRuntime(chosen_library("auto")), []
    random, waiting = np.random.default_rng(1), STEPS
    began = 0.0

    def request() -> Request:
        length = int(random.integers(lengths[0], lengths[1] + 1)) if lengths else options.max_length
        return Request([7] * SOURCE, dataclasses.replace(options, max_length=length), lambda outcome: None)

    def next_plan(lane: Lane) -> Plan[Request] | None:
        nonlocal began, waiting
        if began:
            seconds.append(time.perf_counter() - began - runtime.seconds)
        waiting -= 1
        free = ROWS // options.width - len(lane.running)
        plan = Plan([request() for _ in range(free)], [], []) if waiting else None
        began = time.perf_counter()
        return plan

    joining = EncoderJoining(runtime, bos=2, clock=time.monotonic)
    Lane(0, joining, eos=3, next_plan=next_plan, has_news=lambda lane: True).run()
    return statistics.median(seconds[5:]), runtime.copied / STEPS


def main() -> None:
    """Print the table."""
    print(f"{'microseconds a step':34}{'all':>8}{'logits alone':>14}{'rows copied':>13}")
    kinds: list[tuple[str, DecodingOptions, tuple[int, int] | None]] = [
        (name, options, None) for name, options in KINDS.items()
    ]
    kinds += [(f"{name}, refilled", KINDS[name], (8, 24)) for name in ("greedy", "beam 4")]
    for name, options, lengths in kinds:
        best, copied = min(measure(options, lengths) for _ in range(5))
        reads = options.penalises or options.restricts or options.min_length or options.candidates == 0
        alone = min(numpy_seconds(options) for _ in range(5)) if reads else 0.0
        print(f"{name:34}{best * 1e6:8.0f}{alone * 1e6:14.0f}{copied:13.1f}")


if __name__ == "__main__":
    main()
