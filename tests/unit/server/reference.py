"""Slow, obvious decoding: whole hypotheses, each scored by itself, no rows, no caches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from dragoman_server.decoding.hypothesis import FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.sampling import distribution, draw, uniforms
from tests.unit.server.toy_model import EOS, Floats

LogProbs = Callable[[tuple[int, ...]], Floats]
"""Log-probabilities (vocabulary,) of what follows the target tokens given."""


@runtime_checkable
class Attentive(Protocol):
    """A model whose attention can be asked for."""

    def attention(self, tokens: tuple[int, ...], steps: int) -> Floats:
        """(steps, source), along the tokens."""


@dataclass
class Found:
    """A hypothesis of the reference."""

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    reason: FinishReason | None = None
    model: Attentive | None = None
    """Where its attention can be asked for."""

    @property
    def score(self) -> float:
        return sum(self.log_probs)

    def attention(self) -> Floats:
        assert self.model
        return self.model.attention(self.tokens, len(self.log_probs))

    def rank(self, options: DecodingOptions) -> float:
        length, exponent = len(self.log_probs), options.length_penalty.exponent
        base = (5 + length) / 6 if options.length_penalty.wu else length
        rank = self.score / float(base**exponent)
        if options.coverage_penalty and self.model:
            shares = [min(sum(weights), 1.0) for weights in self.attention().T.tolist()]
            rank += options.coverage_penalty * sum(math.log(share) for share in shares)
        return rank


def may_come(history: tuple[int, ...], token: int, options: DecodingOptions) -> bool:
    """Whether the token may follow."""
    if token == EOS and len(history) < options.min_length:
        return False
    if options.allowed is not None and token not in (*options.allowed, EOS):
        return False
    history = (*options.earlier, *history)
    grown, size = (*history, token), options.no_repeat_ngram_size
    if size and grown[-size:] in [history[i : i + size] for i in range(len(history) - size + 1)]:
        return False
    return not any(grown[-len(sequence) :] == sequence for sequence in options.banned)


def _possible(history: tuple[int, ...], vocabulary: int, options: DecodingOptions) -> list[int]:
    return [token for token in range(vocabulary) if may_come(history, token, options)] or [EOS]


def _grow(parent: Found, token: int, log_prob: float, options: DecodingOptions) -> Found:
    log_probs = (*parent.log_probs, log_prob)
    if token == EOS:
        return Found(parent.tokens, log_probs, FinishReason.STOP, parent.model)
    tokens, reason = (*parent.tokens, token), None
    if options.stop and any(string in options.stop.decode(tokens) for string in options.stop.strings):
        reason = FinishReason.STOP_SEQUENCE
    elif len(tokens) == options.max_length:
        reason = FinishReason.LENGTH
    return Found(tokens, log_probs, reason, parent.model)


def _prefixed(model: LogProbs, options: DecodingOptions) -> Found:
    found = Found((), (), None, model if isinstance(model, Attentive) else None)
    for token in options.prefix:
        found = _grow(found, token, float(model(found.tokens)[token]), replace(options, stop=None))
        found.reason = None
    return found


def forced(model: LogProbs, options: DecodingOptions) -> Found:
    """The prefix, which ends with end-of-sentence, and nothing else."""
    start = _prefixed(model, replace(options, prefix=options.prefix[:-1]))
    return _grow(start, EOS, float(model(start.tokens)[EOS]), options)


def _continuations(model: LogProbs, parent: Found, options: DecodingOptions) -> list[Found]:
    log_probs = model(parent.tokens)
    order = sorted(range(len(log_probs)), key=lambda token: (-log_probs[token], token))
    possible = set(_possible(parent.tokens, len(log_probs), options))
    return [_grow(parent, token, float(log_probs[token]), options) for token in order if token in possible]


def _best(ended: list[Found], count: int, options: DecodingOptions) -> list[Found]:
    return sorted(ended, key=lambda found: -found.rank(options))[:count]


def beam_search(model: LogProbs, options: DecodingOptions) -> list[Found]:
    """Beam search over whole hypotheses, each continued by all of the vocabulary."""
    beam, wanted = options.beam_size, options.num_hypotheses
    live, ended = [_prefixed(model, options)], []
    while live:
        grown = [found for parent in live for found in _continuations(model, parent, options)]
        considered = sorted(grown, key=lambda found: -found.score)[: 2 * beam]
        ended += [found for found in considered[:beam] if found.reason]
        live = [found for found in considered if not found.reason][:beam]
        if len(ended) >= max(math.ceil(options.patience * beam), wanted):
            break
        if options.early_stopping and live and len(ended) >= wanted:
            worst = _best(ended, wanted, options)[-1].rank(options)
            longest = Found((), (live[0].score,) + (0.0,) * (options.max_length - 1))
            if longest.rank(options) <= worst:
                break
    return _best(ended, wanted, options)


def greedy(model: LogProbs, options: DecodingOptions, start: Found | None = None) -> Found:
    """The likeliest token, again and again."""
    found = start or _prefixed(model, options)
    while not found.reason:
        found = _continuations(model, found, options)[0]
    return found


def alternatives(model: LogProbs, options: DecodingOptions) -> list[Found]:
    """Each of the likeliest tokens after the prefix, continued greedily."""
    starts = _continuations(model, _prefixed(model, options), options)[: options.alternatives]
    return _best([greedy(model, options, start) for start in starts], options.alternatives, options)


def samples(model: LogProbs, options: DecodingOptions) -> list[Found]:
    """One sample after the other."""
    assert options.sampling
    ended = []
    for number in range(options.num_hypotheses):
        numbers, found = uniforms(options.sampling.seed, number, options.max_length), _prefixed(model, options)
        while not found.reason:
            log_probs = np.full_like(model(found.tokens), -np.inf)
            possible = _possible(found.tokens, len(log_probs), options)
            log_probs[possible] = model(found.tokens)[possible]
            token = draw(distribution(log_probs, options.sampling), numbers[len(found.tokens)])
            found = _grow(found, token, float(log_probs[token]), options)
        ended.append(found)
    return _best(ended, options.num_hypotheses, options)


def decode(model: LogProbs, options: DecodingOptions) -> list[Found]:
    """Whatever the options ask for."""
    if options.forced:
        return [forced(model, options)]
    if options.beam_size > 1:
        return beam_search(model, options)
    if options.sampling:
        return samples(model, options)
    return alternatives(model, options) if options.alternatives else [greedy(model, options)]
