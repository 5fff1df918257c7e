"""One request's decoding, where it is more than plain greedy: forced prefix, then filters -> search -> ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dragoman_server.decoding.beam import BeamSearch
from dragoman_server.decoding.choosers import IndependentSearch
from dragoman_server.decoding.hypothesis import Answer, Hypothesis
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.scores import LogitScores, Scores, StepScores, TopScores


class Strategy(Protocol):
    """How hypotheses grow, once the prefix stands."""

    candidates: int
    """Candidates of each row that a step looks at; 0: the whole vocabulary."""

    def grow(self, live: Sequence[Hypothesis], scores: Scores, answers: list[Answer]) -> list[Hypothesis]:
        """One step: appends what has ended to ``answers`` and returns what lives on; empty when all is done."""


class Search:
    """The state of one request's search. A request starts as one hypothesis, and so with one row.

    ``top_k`` is how many candidates the graph gives: a step that needs no more, and no filter, reads no logits.
    """

    def __init__(self, options: DecodingOptions, *, eos: int, top_k: int) -> None:
        self._options, self._eos = options, eos
        self._strategy: Strategy = (BeamSearch if options.beam_size > 1 else IndependentSearch)(options, eos)
        self._always = options.penalises or options.restricts or not 1 <= self._strategy.candidates <= top_k
        self._until = max(options.min_length, len(options.prefix))
        self._answers: list[Answer] = []

    def needs_logits(self, live: Sequence[Hypothesis]) -> bool:
        """Whether the next step has to bring the logits; the answer depends on nothing but the request."""
        return self._always or len(live[0].token_ids) < self._until

    def advance(self, live: Sequence[Hypothesis], scored: StepScores) -> list[Hypothesis]:
        """Take one step's output in; returns the hypotheses that live on, none when all is done.

        Survivors keep their row; a fork has none yet and names the row to be copied. Raises NonFiniteScoreError.
        """
        with_logits = self.needs_logits(live)
        scores: Scores = (
            LogitScores(live, scored, self._options, self._eos)
            if with_logits
            else TopScores(live, scored, self._strategy.candidates)
        )
        step = len(live[0].token_ids)
        if step < len(self._options.prefix):
            token_id = self._options.prefix[step]
            live[0].append(token_id, scores.of(0, token_id))
            return list(live)
        return self._strategy.grow(live, scores, self._answers)

    def answers(self) -> list[Answer]:
        """What was found, best first."""
        options = self._options
        return n_best(self._answers, max(options.num_hypotheses, options.alternatives))
