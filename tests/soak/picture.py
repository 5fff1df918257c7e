"""A soak as a picture: memory above, threads, files and rows below, over the requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

from tests.bench.charts import COLOURS
from tests.soak.watching import Sample

mpl.use("Agg")
from matplotlib import pyplot as plt

_MEMORY: dict[str, Callable[[Sample], float]] = {
    "resident": lambda one: one.rss,
    "private and written": lambda one: one.private_dirty,
    "anonymous": lambda one: one.anonymous,
    "allocated": lambda one: one.heap_used,
}
_COUNTS: dict[str, Callable[[Sample], float]] = {
    "rows used": lambda one: one.rows_used,
    "file descriptors": lambda one: one.files,
    "threads": lambda one: one.threads,
}


def draw(path: Path, samples: Sequence[Sample]) -> None:
    """Writes a PNG."""
    figure, (memory, counts) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    asked = [one.requests for one in samples]
    for axes, lines in ((memory, _MEMORY), (counts, _COUNTS)):
        for (name, value), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(asked, [value(one) for one in samples], label=name, color=colour)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
    memory.set_ylabel("MiB")
    memory.set_title("What a server holds during a soak", loc="left", fontsize=11)
    counts.set_xlabel("requests")
    figure.savefig(path, dpi=130)
    plt.close(figure)
