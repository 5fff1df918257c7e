"""What attention over a long text costs: time and memory of full and of truncated attention, by length.

python -m tests.figures.window_cost
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman_model.attention import attend, causal_mask, window_mask
from dragoman_model.window import attend_in_window
from tests.bench.charts import COLOURS
from tests.figures.drawing import keep_figures, keep_picture, panels, tidy

_HEADS, _HEAD_DIM, _WINDOW = 4, 64, 128
_LENGTHS = (256, 512, 1024, 2048, 4096)
_ROUNDS = 2


def full(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Every token sees all before it: scores of time x time."""
    return attend(queries, keys, values, mask=causal_mask(queries.shape[-2]))[0]


def fused(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The same by PyTorch's fused kernel, which never holds all scores (Dao et al. 2022)."""
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def masked(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """A window by its mask alone: nothing is saved."""
    return attend(queries, keys, values, mask=window_mask(queries.shape[-2], _WINDOW - 1, 0))[0]


def windowed(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The same window in blocks."""
    return attend_in_window(queries, keys, values, before=_WINDOW - 1, after=0)


KINDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "full": full,
    "full, fused kernel": fused,
    f"window of {_WINDOW}, by its mask": masked,
    f"window of {_WINDOW}, in blocks": windowed,
}


def measure(kind: str, length: int) -> dict[str, float]:
    """CPU seconds of a forward pass (median) and how much it lifts the process's peak memory, on one thread."""
    torch.set_num_threads(1)
    run = KINDS[kind]
    run(*(torch.randn(1, _HEADS, 160, _HEAD_DIM) for _ in range(3)))
    inputs = [torch.randn(1, _HEADS, length, _HEAD_DIM) for _ in range(3)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        run(*inputs)
        seconds.append(time.process_time() - begin)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "length": length,
        "milliseconds": round(1e3 * statistics.median(seconds), 2),
        "megabytes": round((after - before) / 1024, 1),
    }


def main() -> None:
    """Measure each kind and length in a process of its own, for its peak memory, and draw."""
    found: dict[str, list[dict[str, float]]] = {}
    for kind in KINDS:
        found[kind] = []
        for length in _LENGTHS:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
                found[kind].append(pool.submit(measure, kind, length).result())
            print(kind, found[kind][-1])
    draw(found)
    facts: dict[str, Any] = {"heads": _HEADS, "head_dim": _HEAD_DIM, "window": _WINDOW, "threads": 1}
    keep_figures({**facts, "measured": found}, "window_cost")


def draw(found: dict[str, list[dict[str, float]]]) -> None:
    """Time on the left, memory on the right, both on logarithmic scales."""
    figure, (left, right) = panels(2)
    for colour, marker, (kind, points) in zip(COLOURS, "os^D", found.items(), strict=False):
        lengths = [point["length"] for point in points]
        left.plot(lengths, [p["milliseconds"] for p in points], color=colour, marker=marker, ms=4, label=kind)
        # Below a megabyte the operating system's pages are all that is seen.
        right.plot(lengths, [max(1.0, p["megabytes"]) for p in points], color=colour, marker=marker, ms=4, label=kind)
    tidy(left, title="CPU time of one layer's attention", x="tokens", y="milliseconds")
    tidy(right, title="Memory that it needs", x="tokens", y="megabytes")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    left.legend(frameon=False, fontsize=8)
    keep_picture(figure, "window_cost")


if __name__ == "__main__":
    main()
