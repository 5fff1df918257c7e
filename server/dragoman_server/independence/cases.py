"""What every sentence is asked: every way to decode and to score, some with filters, attention or coverage."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences

KINDS = ("greedy", "beam", "alternatives", "sampling", "forced", "filtered")
WIDEST = 8
"""Rows that the widest case needs."""
# How likely it is: alternatives in the place of a beam, a target to score, and one of these for a request of any kind.
_ALTERNATIVES, _FORCED, _ATTENTION, _COVERAGE = 1 / 3, 1 / 2, 1 / 4, 1 / 4
_STOPS, _PREFIX, _ALLOWED = 1 / 3, 1 / 4, 1 / 8
"""Of filtered requests; those with a prefix have no stop sequences."""


@dataclass(frozen=True)
class Case:
    """One request."""

    kind: str
    """Of ``KINDS``; forced: a target is scored; filtered: any of the others, with filters."""
    source_ids: tuple[int, ...]
    options: DecodingOptions


@dataclass(frozen=True)
class Target:
    """What has to be known of a model's targets. Its vocabulary is that of the sources, too."""

    tokens: int
    """The longest, end-of-sentence included."""
    vocabulary: int
    """How many ids there are."""
    decode: Callable[[Sequence[int]], str]
    """The text of target ids, for stop sequences."""
    prompts: bool = False
    """Sources are prompts: they and what follows them share ``tokens``, and nothing attends to them."""

    def words(self, source: Sequence[int]) -> Sequence[int]:
        """What of a source is text: a prompt has nothing behind it."""
        return source[1:] if self.prompts else source[1:-1]

    def room(self, source: Sequence[int]) -> int:
        """The longest target of the source."""
        return self.tokens - (len(source) - 1) if self.prompts else self.tokens


def draw_cases(sources: Sequence[tuple[int, ...]], target: Target, *, seed: int) -> list[Case]:
    """Three or four cases for each source. The same for the same arguments."""
    chance = random.Random(seed)
    # With a joint vocabulary the ids of the sources are words that come in targets, too.
    words = sorted({token for source in sources for token in target.words(source)})
    cases = []
    for source in sources:
        plain = DecodingOptions(max_length=min(target.room(source), 3 * len(source) // 2 + 10))
        wide = chance.random() < _ALTERNATIVES
        asked = {
            "greedy": plain,
            "alternatives" if wide else "beam": _alternatives(plain, chance) if wide else _beam(plain, chance),
            "sampling": _sampling(plain, chance),
        }
        asked["filtered"] = _filtered(asked.pop(chance.choice(list(asked))), words, target, chance)
        if chance.random() < _FORCED:
            asked["forced"] = _forced(source, target, chance)
        cases += [
            Case(kind, source, options if target.prompts else _attending(options, chance))
            for kind, options in asked.items()
        ]
    return cases


def _beam(plain: DecodingOptions, chance: random.Random) -> DecodingOptions:
    beam_size = chance.randint(2, WIDEST)
    return replace(
        plain,
        beam_size=beam_size,
        num_hypotheses=chance.randint(1, beam_size),
        length_penalty=LengthPenalty(chance.uniform(0.0, 2.0), wu=chance.random() < 0.5),
        patience=chance.choice([1.0, 1.0, chance.uniform(0.5, 3.0)]),
        early_stopping=chance.random() < 0.5,
    )


def _alternatives(plain: DecodingOptions, chance: random.Random) -> DecodingOptions:
    return replace(plain, alternatives=chance.randint(2, WIDEST))


def _sampling(plain: DecodingOptions, chance: random.Random) -> DecodingOptions:
    sampling = SamplingOptions(
        seed=chance.getrandbits(64),
        temperature=chance.uniform(0.3, 1.5),
        top_k=chance.choice([0, 0, 5, 50]),
        top_p=chance.choice([1.0, 0.95, 0.8]),
        min_p=chance.choice([0.0, 0.0, 0.05]),
        typical_p=chance.choice([1.0, 1.0, 0.9]),
    )
    return replace(plain, sampling=sampling, num_hypotheses=chance.choice([1, 1, 2, 4]))


def _forced(source: tuple[int, ...], target: Target, chance: random.Random) -> DecodingOptions:
    """Score the sentence itself, as its own translation or continuation, or any ids of the vocabulary."""
    ids = tuple(target.words(source))
    if not ids or chance.random() < 0.5:
        ids = tuple(chance.randrange(target.vocabulary) for _ in range(chance.randint(1, len(source) + 5)))
    prefix = ids[: target.room(source)] if target.prompts else (*ids[: target.tokens - 1], source[-1])
    return DecodingOptions(max_length=len(prefix), prefix=prefix, forced=True)


def _filtered(options: DecodingOptions, words: Sequence[int], target: Target, chance: random.Random) -> DecodingOptions:
    max_length = min(options.max_length, chance.randint(5, 60))
    prefix: tuple[int, ...] = ()
    if words and chance.random() < _PREFIX:
        prefix = tuple(chance.choices(words, k=min(max_length - 1, chance.randint(1, 3))))
    allowed = None
    if len(words) > 1 and chance.random() < _ALLOWED:
        allowed = tuple(sorted(set(chance.choices(words, k=chance.randint(2, 200)))))
    return replace(
        options,
        max_length=max_length,
        min_length=chance.randrange(min(max_length, 12)),
        repetition_penalty=chance.choice([1.0, chance.uniform(1.05, 1.8)]),
        presence_penalty=chance.choice([0.0, 0.0, chance.uniform(-0.5, 1.0)]),
        frequency_penalty=chance.choice([0.0, 0.0, chance.uniform(-0.2, 0.5)]),
        no_repeat_ngram_size=chance.choice([0, 2, 3, 4]),
        # At least one, so that none of them is a request without filters after all.
        banned=_banned(words, chance) if words else (),
        allowed=allowed,
        prefix=prefix,
        stop=_stop(words, target, chance) if words and not prefix and chance.random() < _STOPS else None,
    )


def _banned(words: Sequence[int], chance: random.Random) -> tuple[tuple[int, ...], ...]:
    """Single tokens, and phrases."""
    return tuple(tuple(chance.choices(words, k=chance.choice([1, 1, 1, 2]))) for _ in range(chance.randint(1, 8)))


def _stop(words: Sequence[int], target: Target, chance: random.Random) -> StopSequences | None:
    """Parts of words, so that many are met, and inside tokens."""
    texts = [target.decode([chance.choice(words)]).strip() for _ in range(chance.randint(1, 3))]
    strings = tuple(text[at : at + 3] for text in texts if text for at in [chance.randrange(len(text))])
    return StopSequences(strings, target.decode) if strings else None


def _attending(options: DecodingOptions, chance: random.Random) -> DecodingOptions:
    return replace(
        options,
        with_attention=chance.random() < _ATTENTION,
        coverage_penalty=chance.uniform(0.05, 1.0) if chance.random() < _COVERAGE else 0.0,
    )
