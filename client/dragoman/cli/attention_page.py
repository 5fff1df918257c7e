"""An explanation as one HTML page that needs nothing else: no server, no network, no library."""

from __future__ import annotations

import base64
import json
import re
import sys
from array import array
from collections.abc import Sequence, Set
from importlib.resources import files
from typing import Any

from dragoman.explaining_values import AttentionMaps, ExplainedToken, Explanation

_PLACE = "__EXPLANATION__"


def page(explanation: Explanation) -> str:
    """The page: the alignment of words where there is one, and a heat map of every layer and head that is there."""
    template = files("dragoman.cli").joinpath("attention.html").read_text(encoding="utf-8")
    before, _, after = template.partition(_PLACE)
    return before + script_safe(page_data(explanation)) + after


def script_safe(data: Any) -> str:
    """JSON that can stand inside a script element: whatever a text says, it does not end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def page_data(explanation: Explanation) -> dict[str, Any]:
    """What the page's script draws."""
    links = explanation.alignment
    source_words = all_words(explanation.text, {(link.source_begin, link.source_end) for link in links})
    target_words = all_words(explanation.target_text, {(link.target_begin, link.target_end) for link in links})
    read = explanation.text + explanation.target_text if not explanation.source_tokens else explanation.target_text
    return {
        "text": explanation.text,
        "pair": explanation.text_pair,
        "target": explanation.target_text,
        "model": explanation.model,
        "version": explanation.model_version,
        "source": _tokens(explanation.source_tokens, explanation.text + explanation.text_pair),
        "read": _tokens(explanation.target_tokens, read),
        "words": {
            "source": [explanation.text[begin:end] for begin, end in source_words],
            "target": [explanation.target_text[begin:end] for begin, end in target_words],
            "links": [
                [
                    source_words.index((link.source_begin, link.source_end)),
                    target_words.index((link.target_begin, link.target_end)),
                    round(link.weight, 4),
                ]
                for link in links
            ],
        },
        "maps": [_maps(kind, maps) for kind, maps in explanation.maps.items() if 0 not in maps.shape],
    }


def all_words(text: str, linked: Set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places of the linked words, and of what stands between them without a link."""
    found = []
    before = 0
    for begin, end in [*sorted(linked), (len(text), len(text))]:
        found += [(before + m.start(), before + m.end()) for m in re.finditer(r"\S+", text[before:begin])]
        found += [(begin, end)] if begin < end else []
        before = end
    return found


def shown_tokens(tokens: Sequence[ExplainedToken], text: str) -> list[str]:
    """Each token as a reader knows it: its part of the text; the vocabulary's entry where it stands nowhere, and where
    several stand in one character.
    """
    places = [(token.begin, token.end) for token in tokens]
    return [
        token.token
        if token.special or token.begin == token.end or places.count(place) > 1
        else text[token.begin : token.end].replace(" ", "\u00a0")
        for token, place in zip(tokens, places, strict=True)
    ]


def _tokens(tokens: Sequence[ExplainedToken], text: str) -> list[dict[str, Any]]:
    shown = shown_tokens(tokens, text)
    return [{"shown": each, "special": token.special} for each, token in zip(shown, tokens, strict=True)]


def _maps(kind: str, maps: AttentionMaps) -> dict[str, Any]:
    weights = array("f", maps.weights)
    if sys.byteorder == "big":
        weights.byteswap()
    return {
        "kind": kind,
        "layer_numbers": maps.layers,
        "head_numbers": maps.heads,
        "shape": maps.shape,
        "weights": base64.b64encode(weights.tobytes()).decode("ascii"),
    }
