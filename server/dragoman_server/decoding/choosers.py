"""Hypotheses that grow independently of each other: greedy, samples, and alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dragoman_server.decoding.ending import ended
from dragoman_server.decoding.hypothesis import Answer, Hypothesis
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.sampling import distribution, draw, uniforms
from dragoman_server.decoding.scores import Scores

Choice = tuple[int, float]
"""A token and its log-probability."""


class Chooser(Protocol):
    """Picks what comes next."""

    candidates: int
    """Candidates of each row that a choice may look at; 0: the whole vocabulary."""

    def start(self, step: int, scores: Scores) -> list[Choice]:
        """The first tokens after a prefix of ``step``, one for each hypothesis to be: there is one row so far."""

    def follow(self, index: int, hypothesis: Hypothesis, scores: Scores) -> Choice:
        """The next token of a hypothesis."""


class Likeliest:
    """Greedy; with alternatives, each of the likeliest first tokens begins a hypothesis."""

    def __init__(self, alternatives: int) -> None:
        self.candidates = max(1, alternatives)

    def start(self, step: int, scores: Scores) -> list[Choice]:
        """The likeliest, as many as there are to be."""
        return list(zip(*scores.best(0, self.candidates), strict=True))

    def follow(self, index: int, hypothesis: Hypothesis, scores: Scores) -> Choice:
        """The likeliest."""
        (token_id,), (log_prob,) = scores.best(index, 1)
        return token_id, log_prob


class Sampler:
    """Draws; each sample has random numbers of its own, one for each step."""

    def __init__(self, options: SamplingOptions, samples: int, max_length: int) -> None:
        self.candidates = options.top_k
        self._options = options
        self._uniforms = [uniforms(options.seed, sample, max_length) for sample in range(samples)]

    def start(self, step: int, scores: Scores) -> list[Choice]:
        """One draw for each sample."""
        return [self._draw(sample, step, 0, scores) for sample in range(len(self._uniforms))]

    def follow(self, index: int, hypothesis: Hypothesis, scores: Scores) -> Choice:
        """One draw."""
        return self._draw(hypothesis.number, len(hypothesis.token_ids), index, scores)

    def _draw(self, sample: int, step: int, index: int, scores: Scores) -> Choice:
        ids, log_probs = scores.row(index)
        drawn = draw(distribution(log_probs, self._options), float(self._uniforms[sample][step]))
        return drawn if ids is None else int(ids[drawn]), float(log_probs[drawn])


class IndependentSearch:
    """Every hypothesis goes its own way until it ends."""

    def __init__(self, options: DecodingOptions, eos: int) -> None:
        self._options, self._eos = options, eos
        self._chooser: Chooser = (
            Sampler(options.sampling, options.num_hypotheses, options.max_length)
            if options.sampling
            else Likeliest(options.alternatives)
        )
        self.candidates = self._chooser.candidates
        self._started = False

    def grow(self, live: Sequence[Hypothesis], scores: Scores, answers: list[Answer]) -> list[Hypothesis]:
        """One step: appends what has ended to ``answers`` and returns what lives on."""
        if self._started:
            choices = [self._chooser.follow(i, hypothesis, scores) for i, hypothesis in enumerate(live)]
        else:
            self._started = True
            choices = self._chooser.start(len(live[0].token_ids), scores)
            live = [live[0], *(live[0].fork() for _ in choices[1:])]
            for number, hypothesis in enumerate(live):
                hypothesis.number = number
        survivors: list[Hypothesis] = []
        for hypothesis, (token_id, log_prob) in zip(live, choices, strict=True):
            answer = ended(hypothesis, token_id, log_prob, self._options, self._eos)
            if answer is None:
                hypothesis.append(token_id, log_prob)
                survivors.append(hypothesis)
            else:
                answers.append(answer)
        return survivors
