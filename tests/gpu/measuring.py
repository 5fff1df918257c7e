"""What the parts of the check on a GPU measure with, and at which sizes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dragoman_server.device import Device
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from tests.gpu.subjects import Subject

Findings = dict[str, Any]

STEPS = 40
ROUNDS = 3
SOURCE = 24
_LADDER = (1, 8, 32, 128, 512)


def ladder(device: Device) -> Sequence[int]:
    """Numbers of rows; few on a processor, which is not for figures."""
    return _LADDER if device.kind == "cuda" else _LADDER[:2]


def texts(subject: Subject, count: int, seed: int = 1, length: int | None = None) -> list[list[int]]:
    """Random texts of 4 to 40 tokens, or all of one length."""
    random = np.random.default_rng(seed)
    lengths = [length or int(random.integers(4, 41)) for _ in range(count)]
    return [random.integers(6, subject.config.vocabulary, size).tolist() for size in lengths]


def median(run: Callable[[], object], times: int) -> float:
    """Seconds, after one run that does not count."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def begin(runtime: OnnxRuntime | OnnxPromptRuntime, subject: Subject, rows: int) -> None:
    """Give each row a text of the same length."""
    sources = texts(subject, rows, length=SOURCE)
    if isinstance(runtime, OnnxRuntime):
        runtime.encode(range(rows), sources)
        return
    for row in range(rows):
        runtime.prefill(sources[row], 0)
        runtime.admit(row, SOURCE)


def grow(runtime: OnnxRuntime | OnnxPromptRuntime, rows: int, count: int) -> None:
    """Some greedy steps of each row."""
    tokens: Any = [2] * rows
    for _ in range(count):
        tokens = runtime.step(tokens).top_ids[:, 0]
