"""How well the words that attention links agree with hand-aligned sentences: python -m tests.bench.alignment [BUNDLE].

Prints the alignment error rate of what the server reads, and of what else might be read. The translations are given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.explaining.alignment import linked, producing, word_attention
from dragoman_server.explaining.graph import Array, ExplainGraph, ExplainInput
from dragoman_server.explaining.words import word_of_tokens, words
from dragoman_server.inspection import checked_manifest
from dragoman_server.tokenization import TextCodec
from tests.integration.aligned import AlignedPair, alignment_error_rate, hand_aligned

Reading = Callable[[Array], Array]
"""From cross-attention (layers, heads, target, source) to what is read (target, source)."""


@dataclass(frozen=True)
class Example:
    """One pair in one direction."""

    pair: AlignedPair
    to_english: bool
    cross: Array
    source_words: list[int | None]
    target_words: list[int | None]

    def links(self, reading: Reading) -> frozenset[tuple[int, int]]:
        """German and English word, as in the hand-made alignment."""
        found = linked(word_attention(reading(self.cross), self.source_words, self.target_words))
        return frozenset((source, target) if self.to_english else (target, source) for target, source in found)


def examples(bundle: Path) -> list[Example]:
    """Every pair, both ways."""
    manifest: Bundle = checked_manifest(bundle)
    tags = {language.code: language.tag_id for language in manifest.languages}
    special = manifest.special_ids
    codec = TextCodec(Tokenizer.from_file(str(bundle / "tokenizer.json")), tags=tags, eos=special.eos)
    graph = ExplainGraph(bundle / manifest.explain)
    found = []
    for pair in hand_aligned():
        for source, target, code in ((pair.de, pair.en, "en"), (pair.en, pair.de, "de")):
            one = ExplainInput(source=codec.encode_source(source, code), target=[special.bos, *codec.encode(target)])
            (attention,) = graph.run([one])
            assert attention.cross is not None
            source_words = word_of_tokens([(0, 0), *codec.offsets(source), (0, 0)], words(source))
            target_words = word_of_tokens([(0, 0), *codec.offsets(target)], words(target))
            found.append(Example(pair, code == "en", attention.cross, source_words, target_words))
    return found


def error_rates(found: list[Example], reading: Reading = producing) -> tuple[float, float]:
    """German to English, English to German."""
    german, english = (
        alignment_error_rate([e.pair for e in part], [e.links(reading) for e in part])
        for part in ([e for e in found if e.to_english], [e for e in found if not e.to_english])
    )
    return german, english


def main() -> None:
    """Print a table."""
    found = examples(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("models/deu-eng/1"))
    layers, heads = found[0].cross.shape[:2]
    readings: dict[str, Reading] = {"all layers and heads, producing (the server's)": producing}
    readings["all layers and heads, reading"] = lambda cross: np.asarray(cross.mean(axis=(0, 1)))
    for layer in range(layers):
        readings[f"layer {layer}, producing"] = lambda cross, layer=layer: producing(cross[layer : layer + 1])  # type: ignore[misc]
        for head in range(heads):
            readings[f"layer {layer}, head {head}, producing"] = (
                lambda cross, layer=layer, head=head: producing(  # type: ignore[misc]
                    cross[layer : layer + 1, head : head + 1]
                )
            )
    table = Table("what is read", "de-en", "en-de", title=f"Alignment error rate, {len(found) // 2} sentence pairs")
    for name, reading in readings.items():
        table.add_row(name, *(f"{rate:.3f}" for rate in error_rates(found, reading)))
    Console().print(table)


if __name__ == "__main__":
    main()
