"""An explanation as a picture: every layer and head side by side, with the tokens where there is room for them.

Drawn by matplotlib (``pip install 'dragoman[plot]'``), which has fonts: a heat map without its words says little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman.cli.attention_page import shown_tokens
from dragoman.explaining_values import AttentionMaps, Explanation

_CELL_INCHES = 0.22
_LABELLED = 40
"""Tokens: more would be too small to read."""
_TITLES = {"encoder_self": "encoder", "decoder_self": "decoder", "cross": "cross"}
MOST_PANELS = 64


def write_picture(explanation: Explanation, path: Path) -> None:
    """Write a PNG. ModuleNotFoundError without matplotlib; ValueError for more than ``MOST_PANELS`` layers x heads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (an extra, and slow)
    from matplotlib.figure import Figure  # noqa: PLC0415

    kind, maps = next(reversed(explanation.maps.items()))
    layers, heads, queries, keys = maps.shape
    if not layers * heads or layers * heads > MOST_PANELS:
        raise ValueError(f"{layers} layers of {heads} heads: a picture shows 1 to {MOST_PANELS} of them together")
    rows, columns = _labels(explanation, kind)
    wide, high = (max(1.6, _CELL_INCHES * count) for count in (keys, queries))
    figure = Figure(figsize=(0.8 + heads * (wide + 0.6), 0.8 + layers * (high + 0.8)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(layers, heads, squeeze=False)
    figure.suptitle(f"{_TITLES[kind]}: {explanation.model}", parse_math=False)
    for layer in range(layers):
        for head in range(heads):
            _panel(axes[layer][head], maps, layer, head, rows, columns)
    figure.savefig(path, format="png", dpi=120)


def _panel(axis: Any, maps: AttentionMaps, layer: int, head: int, rows: list[str], columns: list[str]) -> None:  # noqa: PLR0917
    axis.imshow(maps[layer, head], cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    names = [
        f"{word} {numbers[place]}" if numbers else f"all {word}s"
        for word, numbers, place in (("layer", maps.layers, layer), ("head", maps.heads, head))
    ]
    axis.set_title(", ".join(names), fontsize=9)
    few = max(len(rows), len(columns)) <= _LABELLED
    axis.set_yticks(range(len(rows)) if few else [], rows if few else [], fontsize=7, parse_math=False)
    axis.set_xticks(
        range(len(columns)) if few else [], columns if few else [], fontsize=7, rotation=90, parse_math=False
    )


def _labels(explanation: Explanation, kind: str) -> tuple[list[str], list[str]]:
    text = explanation.target_text if explanation.source_tokens else explanation.text + explanation.target_text
    source = shown_tokens(explanation.source_tokens, explanation.text + explanation.text_pair)
    target = shown_tokens(explanation.target_tokens, text)
    return (source if kind == "encoder_self" else target), (target if kind == "decoder_self" else source)
