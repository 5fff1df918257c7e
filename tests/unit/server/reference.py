"""Slow, obvious decoding: whole hypotheses, each scored by itself, no rows, no caches; and a toy model to decode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from dragoman_server.bundle import LoadedBundle
from dragoman_server.decoding.hypothesis import FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.sampling import distribution, draw, uniforms
from dragoman_server.packing import pack
from dragoman_server.rows import Move, Moves
from dragoman_server.runtime import StepOutput
from tests.unit.server import tiny

Floats = npt.NDArray[np.float32]
LogProbs = Callable[[tuple[int, ...]], Floats]
"""Log-probabilities (vocabulary,) of what follows the target tokens given."""

BOS, EOS, VOCABULARY, TOP_K = 2, 3, 24, 6


@lru_cache(maxsize=200_000)
def toy_logits(source: tuple[int, ...], history: tuple[int, ...]) -> Floats:
    """A model without any structure: every prefix has logits of its own, flat or peaked."""
    random = np.random.default_rng([*source, 1_000, *history])
    logits = random.normal(scale=random.choice([0.5, 2.0, 5.0]), size=VOCABULARY).astype(np.float32)
    logits[:EOS] = -30
    logits[EOS] += 1
    return logits


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    result: Floats = (shifted - np.log(np.exp(shifted).sum(dtype=np.float64))).astype(np.float32)
    return result


@lru_cache(maxsize=200_000)
def toy_attention(source: tuple[int, ...], history: tuple[int, ...]) -> Floats:
    """What the toy model attends to, (source,), where it says what follows the history."""
    random = np.random.default_rng([*source, 2_000, *history])
    return random.dirichlet(np.full(len(source), 0.4)).astype(np.float32)


def penalised(logits: npt.NDArray[np.float64], history: tuple[int, ...], options: DecodingOptions) -> None:
    """Put the options' penalties on what was produced, in place."""
    for token in set(history):
        penalty = options.repetition_penalty
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        logits[token] -= options.presence_penalty + options.frequency_penalty * history.count(token)


@dataclass(frozen=True)
class Toy:
    """The toy model for one source, with the options' penalties."""

    source: tuple[int, ...]
    options: DecodingOptions | None = None

    def __call__(self, history: tuple[int, ...]) -> Floats:
        logits = toy_logits(self.source, history).astype(np.float64)
        if self.options:
            penalised(logits, history, self.options)
        return log_softmax(logits.astype(np.float32))

    def attention(self, tokens: tuple[int, ...], steps: int) -> Floats:
        """(steps, source), along the tokens."""
        return np.array([toy_attention(self.source, tokens[:step]) for step in range(steps)])


def toy(source: Sequence[int], options: DecodingOptions | None = None) -> Toy:
    """The toy model's answers for one source, with the options' penalties."""
    return Toy(tuple(source), options)


class ToyRuntime:
    """The toy model behind rows that know nothing but what was fed to them: a row that leaks or is mixed up shows."""

    source_capacity, target_capacity, top_k = 64, 64, TOP_K

    def __init__(self, max_rows: int, kernels: Path | None = None) -> None:
        self.max_rows, self.kernels = max_rows, kernels
        self.steps_with_logits = self.steps_with_attention = 0
        self._rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())] * max_rows

    def warm_up(self) -> None: ...

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = (tuple(source), ())

    def copy(self, moves: Sequence[Move]) -> None:
        sources, targets = [move.source for move in moves], [move.target for move in moves]
        assert not set(sources) & set(targets)
        assert len(set(targets)) == len(targets)
        siblings = isinstance(moves, Moves) and moves.siblings
        for source, target, kept in moves:
            if siblings:
                assert self._rows[source][0] == self._rows[target][0]
                assert len(self._rows[source][1]) == len(self._rows[target][1])
            assert self._rows[source][1][:kept] == self._rows[target][1][:kept]
            assert not kept or self._rows[source][0] == self._rows[target][0]
            self._rows[target] = self._rows[source]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        fed = np.asarray(tokens).tolist()
        self._rows[: len(fed)] = [(row[0], (*row[1], token)) for row, token in zip(self._rows, fed, strict=False)]
        live = [(source, history[1:]) for source, history in self._rows[: len(fed)]]
        assert all(history[0] == BOS for _, history in self._rows[: len(fed)])
        logits = np.array([toy_logits(*row) for row in live])
        log_probs = np.array([log_softmax(row) for row in logits])
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :TOP_K]
        self.steps_with_logits += with_logits
        self.steps_with_attention += with_attention
        attention = np.zeros((len(fed), max(len(source) for source, _ in live) + 1), np.float32)
        for row, (source, history) in enumerate(live):
            attention[row, : len(source)] = toy_attention(source, history)
        return StepOutput(
            np.take_along_axis(log_probs, ids, axis=1),
            ids,
            logits if with_logits else None,
            attention if with_attention else None,
        )


class OnnxReference:
    """The tiny graphs, one hypothesis at a time, with caches that are passed in and out and never shared."""

    def __init__(self, bundle: LoadedBundle, source: Sequence[int]) -> None:
        encoder, self._decoder = (
            ort.InferenceSession(path, disabled_optimizers=["SkipLayerNormFusion"])
            for path in (bundle.encoder, bundle.decoder)
        )
        cross, last = encoder.run(["cross", "cross_last"], pack([source]).feeds)
        kinds = [f"{kind}_{layer}" for layer in range(tiny.LAYERS) for kind in ("key", "value")]
        self._encoded = {f"cross_{kind}": cache[None] for kind, cache in zip(kinds, cross, strict=True)}
        self._encoded |= {f"cross_last_{kind}": one for kind, one in zip(kinds, last, strict=True)}
        self._source_length = len(source)
        empty = np.zeros((1, tiny.HEADS, tiny.TARGET_TOKENS, tiny.HEAD_DIM), np.float32)
        inputs = [port.name for port in self._decoder.get_inputs() if port.name.startswith("past_")]
        self._known: dict[tuple[int, ...], tuple[Floats, dict[str, Floats]]] = {}
        self._known[()] = self._step(tiny.BOS, 0, dict.fromkeys(inputs, empty))

    def __call__(self, history: tuple[int, ...]) -> Floats:
        if history not in self._known:
            self(history[:-1])
            self._known[history] = self._step(history[-1], len(history), self._known[history[:-1]][1])
        return self._known[history][0]

    def _step(self, token: int, position: int, caches: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        feed = {
            "input_ids": np.array([[token]]),
            "lengths": np.array([position], np.int32),
            "total_length": np.array(position + 1, np.int32),
            "cross_lengths": np.array([self._source_length - 1], np.int32),
            "cross_total": np.array(self._source_length, np.int32),
        }
        outputs = [output.name for output in self._decoder.get_outputs()]
        result = dict(zip(outputs, self._decoder.run(outputs, feed | caches | self._encoded), strict=True))
        grown = {name: result[name.replace("past", "present")] for name in caches}
        return log_softmax(result["logits"][0]), grown


@dataclass
class Found:
    """A hypothesis of the reference."""

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    reason: FinishReason | None = None
    toy: Toy | None = None
    """Where its attention can be asked for."""

    @property
    def score(self) -> float:
        return sum(self.log_probs)

    def attention(self) -> Floats:
        assert self.toy
        return self.toy.attention(self.tokens, len(self.log_probs))

    def rank(self, options: DecodingOptions) -> float:
        length, exponent = len(self.log_probs), options.length_penalty.exponent
        base = (5 + length) / 6 if options.length_penalty.wu else length
        rank = self.score / float(base**exponent)
        if options.coverage_penalty and self.toy:
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
        return Found(parent.tokens, log_probs, FinishReason.STOP, parent.toy)
    tokens, reason = (*parent.tokens, token), None
    if options.stop and any(string in options.stop.decode(tokens) for string in options.stop.strings):
        reason = FinishReason.STOP_SEQUENCE
    elif len(tokens) == options.max_length:
        reason = FinishReason.LENGTH
    return Found(tokens, log_probs, reason, parent.toy)


def _prefixed(model: LogProbs, options: DecodingOptions) -> Found:
    found = Found((), (), None, model if isinstance(model, Toy) else None)
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
