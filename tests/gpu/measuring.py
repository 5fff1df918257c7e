"""What the parts of the check on a GPU measure with, and at which sizes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dragoman_server.device import Device
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from tests.gpu.launching import Findings
from tests.gpu.subjects import Subject

__all__ = ["Findings"]

Runtime = OnnxRuntime | OnnxPromptRuntime

STEPS = 40
ROUNDS = 5
SOURCE = 24
_LADDER = (1, 32, 512, 8, 128)
"""What says most comes first: the time may not do for all."""


class WrongResultError(Exception):
    """What was computed cannot be right."""


def ladder(device: Device) -> Sequence[int]:
    """Numbers of rows; few on a processor, which is not for figures."""
    return _LADDER if device.kind == "cuda" else (1, 8)


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


def begin(runtime: Runtime, subject: Subject, texts: Sequence[Sequence[int]]) -> list[int]:
    """Give each row its text; the tokens that the first step is to be fed. A prompt's last token is one of them."""
    if isinstance(runtime, OnnxRuntime):
        runtime.encode(range(len(texts)), texts)
        return [subject.config.bos_id] * len(texts)
    for row, text in enumerate(texts):
        runtime.prefill(text[:-1], 0)
        runtime.admit(row, len(text) - 1)
    return [text[-1] for text in texts]


def grow(runtime: Runtime, tokens: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    """Some greedy steps of each row; what the next is to be fed. WrongResultError where the last gave what none can."""
    fed: Any = tokens
    for _ in range(count):
        output = runtime.step(fed)
        fed = output.top_ids[:, 0]
    require_candidates(output.top_ids, output.top_log_probs)
    return np.array(fed)


def require_candidates(ids: npt.NDArray[np.int64], log_probs: npt.NDArray[np.float32]) -> None:
    """WrongResultError where these (rows, top_k) cannot be the best candidates of rows with texts of their own."""
    if not np.isfinite(log_probs).all():
        raise WrongResultError("a step gave log-probabilities that are not finite")
    if (log_probs > 0).any() or (np.diff(log_probs) > 0).any() or (log_probs[:, 0] == log_probs[:, -1]).any():
        raise WrongResultError("a step gave candidates that are no log-probabilities, or not the best first")
    if any(len(set(row)) < len(row) for row in ids.tolist()):
        raise WrongResultError("a step gave a row the same candidate twice")
    if len(ids) > 1 and (log_probs == log_probs[0]).all():
        raise WrongResultError("a step gave all rows the same")
