"""How the pictures of docs/attention.md are drawn and kept: one style, and the figures behind each as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

IMAGES = Path(__file__).parents[2] / "docs" / "images" / "attention"


def panels(count: int, *, width: float = 5.0, height: float = 3.8, **options: Any) -> tuple[Figure, list[Axes]]:
    """A row of ``count`` axes; sizes in inches, of one of them."""
    figure, axes = plt.subplots(
        1, count, figsize=(width * count, height), layout="constrained", squeeze=False, **options
    )
    return figure, list(axes[0])


def tidy(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Title and labels, no frame, a faint grid."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def heatmap(axes: Axes, weights: Tensor, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Attention weights (rows, columns), white for 0 and dark for 1."""
    axes.imshow(weights.numpy(), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8, rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.tick_params(length=0)
    axes.set_title(title, loc="left", fontsize=10)


def keep_picture(figure: Figure, name: str) -> None:
    """Write NAME.png beside the others."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=110)
    plt.close(figure)
    print(f"{name}.png: {(IMAGES / f'{name}.png').stat().st_size // 1000} kB")


def keep_figures(figures: dict[str, Any], name: str) -> None:
    """Write what was measured to NAME.json."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
