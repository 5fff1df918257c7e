"""Beam search over the rows of one request."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

from dragoman_server.decoding.ending import ended
from dragoman_server.decoding.hypothesis import Answer, Hypothesis
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.scores import Scores

_Continuation = tuple[float, int, Hypothesis, int, float]
"""The score's negative and, of equals, the place (first the better parent's, then the better token); parent, token and
its log-probability. Sorts best first."""


class BeamSearch:
    """Each step: of the 2 x beam_size best continuations of all live hypotheses, those that end among the first
    beam_size have ended, and the first beam_size of the others live on.

    Of 2 x beam_size at most beam_size can be end-of-sentence (one for each hypothesis), so enough are left to go on.
    """

    def __init__(self, options: DecodingOptions, eos: int) -> None:
        self._options, self._eos = options, eos
        self.candidates = 2 * options.beam_size
        """Candidates of each row that a step looks at."""
        self._enough = max(ceil(options.patience * options.beam_size), options.num_hypotheses)

    def grow(self, live: Sequence[Hypothesis], scores: Scores, answers: list[Answer]) -> list[Hypothesis]:
        """One step: appends what has ended to ``answers`` and returns what lives on, best first.

        The first continuation of a hypothesis is the hypothesis itself, in its row; only further ones are copies.
        """
        options, beam = self._options, self._options.beam_size
        may_end = options.stop is not None or len(live[0].token_ids) + 1 >= options.max_length
        going: list[_Continuation] = []
        for rank, continuation in enumerate(self._continuations(live, scores)):
            _, _, parent, token_id, log_prob = continuation
            answer = None
            if may_end or token_id == self._eos:
                answer = ended(parent, token_id, log_prob, options, self._eos)
            if answer is None:
                going.append(continuation)
                if len(going) == beam:
                    break
            elif rank < beam:
                answers.append(answer)
        if self._done(going, answers):
            return []
        taken: set[int] = set()
        survivors: list[Hypothesis] = []
        for _, _, parent, _, _ in going:
            survivors.append(parent.fork() if parent.row in taken else parent)
            taken.add(parent.row)
        # Only now, since a fork is what its parent was before.
        for hypothesis, (_, _, _, token_id, log_prob) in zip(survivors, going, strict=True):
            hypothesis.append(token_id, log_prob)
        return survivors

    def _continuations(self, live: Sequence[Hypothesis], scores: Scores) -> list[_Continuation]:
        """The best 2 x beam_size, best first."""
        found: list[_Continuation] = []
        worst = inf
        for index, parent in enumerate(live):
            ids, log_probs = scores.best(index, self.candidates)
            score, order = parent.score, self.candidates * index
            if len(ids) == self.candidates:  # that many are at least as good as its last
                worst = min(worst, -score - log_probs[-1])
            for token_id, log_prob in zip(ids, log_probs, strict=True):
                if -score - log_prob > worst:
                    break
                found.append((-score - log_prob, order, parent, token_id, log_prob))
                order += 1
        found.sort()
        return found[: self.candidates]

    def _done(self, going: Sequence[_Continuation], answers: Sequence[Answer]) -> bool:
        if not going or len(answers) >= self._enough:
            return True
        options = self._options
        if not options.early_stopping or len(answers) < options.num_hypotheses:
            return False
        # Log-probabilities only add up to less, and the longest is penalised least.
        _, _, parent, _, log_prob = going[0]
        bound = options.length_penalty.rank(parent.score + log_prob, options.max_length)
        return bound <= n_best(answers, options.num_hypotheses)[-1].rank_score
