"""What is translated: Tatoeba's test set, or sentences of our own where it is missing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_model.data import read_pairs
from dragoman_model.tokenizer import load_tokenizer
from dragoman_server.tokenization import TextCodec
from tests.bench.models import BASE, DEFAULT
from tests.bench.random_base import END_ID, FIRST_WORD, LONGEST, VOCABULARY, base_source, word
from tests.bench.results import ROOT
from tests.integration.sentences import sentences

TATOEBA = ROOT.parent / "shared" / "data" / "tatoeba-deu-eng" / "test.tsv.gz"
_TAGS = {"de": 4, "en": 5}
_EOS = 3
_WRONG = 0.005
"""Share of the outputs whose length 8 bits may get wrong."""


@dataclass(frozen=True)
class Workload:
    """Sentences, in the order in which they are handed over."""

    name: str
    sources: Sequence[Sequence[int]]
    """Tag, text, end-of-sentence."""
    texts: Sequence[str]
    """The same for a server, which adds tag and end-of-sentence."""
    references: Sequence[str] | None
    """None where nobody knows a translation."""
    lengths: Sequence[int] | None
    """Target tokens of each sentence, where they are fixed."""

    def part(self, count: int | None) -> Workload:
        """The first ``count`` sentences; None: all."""
        return Workload(
            self.name,
            self.sources[:count],
            self.texts[:count],
            None if self.references is None else self.references[:count],
            None if self.lengths is None else self.lengths[:count],
        )

    def check(self, outputs: Sequence[Sequence[int]]) -> int:
        """How many outputs do not have the fixed lengths; ValueError where these are so many that speeds mislead."""
        if len(outputs) != len(self.sources):
            raise ValueError(f"{len(outputs)} outputs for {len(self.sources)} sources")
        if self.lengths is None:
            return 0
        wrong = [i for i, (ids, length) in enumerate(zip(outputs, self.lengths, strict=True)) if len(ids) != length]
        if len(wrong) > _WRONG * len(outputs):
            first = wrong[0]
            found, wanted = len(outputs[first]), self.lengths[first]
            raise ValueError(
                f"{len(wrong)} outputs are too short or too long: {first} has {found} tokens, not {wanted}"
            )
        return len(wrong)

    def facts(self) -> dict[str, object]:
        """For the JSON."""
        lengths = [len(source) for source in self.sources]
        return {
            "name": self.name,
            "sentences": len(lengths),
            "source_tokens": sum(lengths),
            "longest_source": max(lengths),
            "target_tokens": None if self.lengths is None else sum(self.lengths),
        }


def workload(model: str, *, shuffled: bool = True, source: str = "en", target: str = "de") -> Workload:
    """The test set for the model; ``shuffled`` mixes the lengths, always in the same way."""
    codec = TextCodec(load_tokenizer(ROOT / "models" / DEFAULT / "1" / "tokenizer.json"), tags=_TAGS, eos=_EOS)
    pairs, name = _pairs(source)
    order = list(range(len(pairs)))
    if shuffled:
        random.Random(1).shuffle(order)
    chosen = [pairs[i] for i in order]
    sources = [_cut(codec.encode_source(text, target)) for text, _ in chosen]
    if model != BASE:
        references = [reference for _, reference in chosen if reference is not None]
        return Workload(name, sources, [text for text, _ in chosen], references or None, None)
    # The same lengths on both sides, where the other side is known; else about as long.
    chance = random.Random(2)
    drawn, lengths = [], []
    for ids, (text, reference) in zip(sources, chosen, strict=True):
        words = [chance.randrange(FIRST_WORD, VOCABULARY) for _ in ids[1:-1]]
        length = len(codec.encode(text if reference is None else reference))
        lengths.append(max(1, min(length, len(words) + 1)))
        drawn.append(base_source(words, lengths[-1]))
    texts = [" ".join(map(word, ids[1:-1])) for ids in drawn]
    return Workload(f"{name}, its lengths", drawn, texts, None, lengths)


def _pairs(source: str) -> tuple[list[tuple[str, str | None]], str]:
    if not TATOEBA.is_file():
        return [(text, None) for text in sentences(3300)], "sentences of our own"
    pairs, _ = read_pairs(TATOEBA)
    forward = source == "en"
    found: list[tuple[str, str | None]] = [(p.first, p.second) if forward else (p.second, p.first) for p in pairs]
    return found, f"Tatoeba test, {'en-de' if forward else 'de-en'}"


def _cut(ids: list[int]) -> list[int]:
    return ids if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]


assert END_ID < FIRST_WORD  # a word drawn at random never ends a target
