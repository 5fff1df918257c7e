"""An explanation for the terminal: the words that belong together, or what each token looks at most."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dragoman.cli.attention_page import shown_tokens
from dragoman.explaining_values import AttentionMaps, Explanation

_BAR = 20
_MOST = 3
_TITLES = {"encoder_self": "The encoder", "decoder_self": "The decoder", "cross": "The decoder, of the text"}


def rendered(explanation: Explanation) -> RenderableType:
    """Of a translation its alignment; of another model the tokens that each token looks at most, by the mean."""
    parts: list[RenderableType] = []
    if explanation.target_text:
        parts.append(Text(explanation.target_text))
    if explanation.alignment:
        parts.append(_alignment(explanation))
    elif explanation.maps:
        kind, maps = next(reversed(explanation.maps.items()))
        parts.append(_most_seen(explanation, kind, maps))
    return Group(*parts)


def _alignment(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("text", "translation", "share", ""):
        table.add_column(name)
    for source, target, weight in explanation.aligned_words():
        table.add_row(Text(source), Text(target), f"{weight:.2f}", "█" * round(_BAR * weight))
    return table


def _most_seen(explanation: Explanation, kind: str, maps: AttentionMaps) -> Table:
    if kind == "encoder_self":
        shown = shown_tokens(explanation.source_tokens, explanation.text + explanation.text_pair)
    else:
        shown = shown_tokens(explanation.target_tokens, explanation.text + explanation.target_text)
    table = Table("token", "looks at", box=None, pad_edge=False, title=_TITLES[kind], title_justify="left")
    layers, heads, queries, keys = maps.shape
    for query in range(queries):
        mean = [
            sum(maps[layer, head, query, key] for layer in range(layers) for head in range(heads)) / (layers * heads)
            for key in range(keys)
        ]
        best = sorted(range(keys), key=lambda key: -mean[key])[:_MOST]
        table.add_row(Text(shown[query]), Text("  ".join(f"{shown[key]} {mean[key]:.2f}" for key in best)))
    return table
