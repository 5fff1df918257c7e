"""Pictures of results: grouped bars, in colours that everybody can tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from tests.bench.rounds import Spread

mpl.use("Agg")
from matplotlib import pyplot as plt

# Okabe and Ito's palette.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_HATCHES = ("", "//", "..", "xx", "\\\\", "--")


def bars(
    path: Path,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Spread | None]],
    *,
    title: str,
    label: str,
    logarithmic: bool = False,
) -> None:
    """One group of bars for each of ``groups``; whiskers show the least and the largest round, None leaves a gap."""
    figure, axes = plt.subplots(figsize=(max(7.0, 1.6 * len(groups)), 4.2), layout="constrained")
    width = 0.8 / len(series)
    for number, (name, spreads) in enumerate(series.items()):
        places = [i + (number - (len(series) - 1) / 2) * width for i, s in enumerate(spreads) if s is not None]
        shown = [spread for spread in spreads if spread is not None]
        heights = [spread.median for spread in shown]
        whiskers = [[s.median - s.low for s in shown], [s.high - s.median for s in shown]]
        drawn = axes.bar(
            places,
            heights,
            width * 0.94,
            yerr=whiskers,
            label=name,
            color=COLOURS[number % len(COLOURS)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
            error_kw={"elinewidth": 1, "capsize": 2},
        )
        axes.bar_label(drawn, labels=[_short(height) for height in heights], padding=2, fontsize=8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.set_title(title, loc="left", fontsize=11)
    if logarithmic:
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
