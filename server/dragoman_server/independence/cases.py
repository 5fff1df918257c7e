"""What every sentence is asked: greedy, beam search and seeded sampling, a third of them with filters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import LengthPenalty

KINDS = ("greedy", "beam", "sampling", "filtered")
WIDEST = 8
"""Rows that the widest case needs."""


@dataclass(frozen=True)
class Case:
    """One request."""

    kind: str
    """Of ``KINDS``; filtered: any of the other three, with filters."""
    source_ids: tuple[int, ...]
    options: DecodingOptions


def draw_cases(sources: Sequence[tuple[int, ...]], *, target_tokens: int, seed: int) -> list[Case]:
    """Three cases for each source; ``target_tokens`` is the longest target. The same for the same arguments."""
    chance = random.Random(seed)
    # With a joint vocabulary the ids of the sources are words that come in targets, too.
    words = sorted({token for source in sources for token in source[1:-1]})
    cases = []
    for source in sources:
        plain = DecodingOptions(max_length=min(target_tokens, 3 * len(source) // 2 + 10))
        asked = {"greedy": plain, "beam": _beam(plain, chance), "sampling": _sampling(plain, chance)}
        filtered = chance.choice(list(asked))
        for kind, options in asked.items():
            if kind == filtered:
                cases.append(Case("filtered", source, _filtered(options, words, chance)))
            else:
                cases.append(Case(kind, source, options))
    return cases


def _beam(plain: DecodingOptions, chance: random.Random) -> DecodingOptions:
    beam_size = chance.randint(2, WIDEST)
    return replace(
        plain,
        beam_size=beam_size,
        num_hypotheses=chance.randint(1, beam_size),
        length_penalty=LengthPenalty(chance.uniform(0.0, 2.0), wu=chance.random() < 0.5),
        early_stopping=chance.random() < 0.5,
    )


def _sampling(plain: DecodingOptions, chance: random.Random) -> DecodingOptions:
    sampling = SamplingOptions(
        seed=chance.getrandbits(64),
        temperature=chance.uniform(0.3, 1.5),
        top_k=chance.choice([0, 0, 5, 50]),
        top_p=chance.choice([1.0, 0.95, 0.8]),
        min_p=chance.choice([0.0, 0.0, 0.05]),
    )
    return replace(plain, sampling=sampling, num_hypotheses=chance.choice([1, 1, 2, 4]))


def _filtered(options: DecodingOptions, words: Sequence[int], chance: random.Random) -> DecodingOptions:
    max_length = min(options.max_length, chance.randint(5, 60))
    return replace(
        options,
        max_length=max_length,
        min_length=chance.randrange(min(max_length, 12)),
        repetition_penalty=chance.choice([1.0, chance.uniform(1.05, 1.8)]),
        no_repeat_ngram_size=chance.choice([0, 2, 3, 4]),
        # At least one, so that none of them is a request without filters after all.
        banned=tuple((chance.choice(words),) for _ in range(chance.randint(1, 8))) if words else (),
    )
