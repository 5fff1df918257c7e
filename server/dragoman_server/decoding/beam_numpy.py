"""Steps of beam search by numpy: where there is no compiled library."""

from __future__ import annotations

from collections import deque
from operator import itemgetter, methodcaller
from typing import TYPE_CHECKING

import numpy as np

from dragoman_server.decoding.beam_state import DIVISOR, LAST, MISSING, WORST, BeamState, Found
from dragoman_server.decoding.ending import Ending
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import HypothesisTable, Ints

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput


class NumpySearch:
    """``BeamSearch`` for all requests at one time, array by array."""

    found: Found

    def __init__(self, state: BeamState) -> None:
        self._state = state

    def advance(self, output: StepOutput, table: HypothesisTable, eos: int) -> None:
        """As ``BeamSearch`` says: array by array it would be no quicker."""

    def choose(self, step: Step) -> None:
        """As ``BeamSearch`` says."""
        state, count = self._state, 2 * self._state.width
        # (requests, places, candidates)
        ids = step.candidates.ids.take(state.rows, axis=0)[:, :, :count]
        log_probs = step.candidates.log_probs.take(state.rows, axis=0)[:, :, :count]
        scores = (state.scores[:, :, None] + log_probs).reshape(len(ids), -1)
        order = (-scores).argsort(axis=1, kind="stable")[:, :count]
        best = order + scores.shape[1] * np.arange(len(ids))[:, None]
        scores = scores.take(best)
        ids = ids.take(best)
        ends = ids == step.eos
        ends[state.limits[:, LAST] == state.steps] = True
        self.found = Found(order // count, ids, log_probs.take(best), scores, scores > -np.inf, ends)

    def ended(self, step: Step) -> list[tuple[int, Ending]]:
        """As ``BeamSearch`` says."""
        found, width = self.found, self._state.width
        requests, places = (found.ends & found.possible)[:, :width].nonzero()
        if not len(requests):
            return []
        rows: list[int] = self._state.rows[requests, found.parents[requests, places]].tolist()
        found = found.map(itemgetter((requests, places)))
        what = rows, found.ids.tolist(), found.log_probs.tolist(), found.scores.tolist(), step.table.pasts(rows)
        return list(zip(requests.tolist(), map(Ending, *what), strict=True))

    def place(self, step: Step) -> list[int]:
        """As ``BeamSearch`` says."""
        state, found, width = self._state, self.found, self._state.width
        goes = found.possible & ~found.ends
        done: list[int] = []
        if goes[:, :width].all() and (state.limits[:, WORST] == -np.inf).all():
            found = found.map(itemgetter(np.s_[:, :width]))
        else:
            state.limits[:, MISSING] -= (found.ends & found.possible)[:, :width].sum(axis=1)
            first = (~goes).argsort(axis=1, kind="stable")[:, :width] + 2 * width * np.arange(len(goes))[:, None]
            found = found._replace(possible=goes).map(methodcaller("take", first))
            done, found = self._finish(step, found)
        if state.count:
            self._settle(step, found)
        return done

    def _finish(self, step: Step, found: Found) -> tuple[list[int], Found]:
        """Which requests are done, and what is found of the others."""
        state, limits = self._state, self._state.limits
        # Log-probabilities only add up to less, the longest is penalised least, and nothing covers more than all.
        going = found.scores[:, 0] / limits[:, DIVISOR] > limits[:, WORST]
        going &= found.possible[:, 0] & (limits[:, MISSING] > 0)
        if going.all():
            return [], found
        done = np.flatnonzero(~going)
        step.changes.free(state.rows[done][state.scores[done] > -np.inf].tolist())
        state.keep(going)
        gone: list[int] = done.tolist()
        return gone, found.map(itemgetter(going))

    def _settle(self, step: Step, found: Found) -> None:
        """What was found, as much as there are places, is from now on the beam; everybody gets a row.

        The first continuation of a hypothesis stays in its row; only further ones are copies.
        """
        state, goes = self._state, found.possible
        rows = state.rows.reshape(-1)
        parents = (found.parents + state.width * np.arange(state.count)[:, None]).reshape(-1)
        all_go = bool(goes.all())
        children = np.arange(len(rows)) if all_go else np.flatnonzero(goes)
        families = parents if all_go else parents[children]
        heirs = np.empty(len(rows), np.int64)
        heirs[families[::-1]] = children[::-1]  # the first child is written last, and so stands
        full = (state.scores > -np.inf).reshape(-1)
        left = full.copy()
        left[families] = False
        new = rows[parents]
        copied = children[heirs[families] != children]
        if not (all_go and full.all()):
            self._balance(step, parents, copied.tolist(), np.flatnonzero(left).tolist(), new)
        elif len(copied):
            targets = rows[left]
            step.changes.replace(new[copied], targets)
            new[copied] = targets
        new = new.reshape(goes.shape)
        if all_go:
            state.rows[:], state.scores[:] = new, found.scores
            step.ids[new], step.log_probs[new] = found.ids, found.log_probs
            return
        state.rows[:] = np.where(goes, new, new[:, :1])
        state.scores[:] = np.where(goes, found.scores, -np.inf)
        step.ids[new[goes]], step.log_probs[new[goes]] = found.ids[goes], found.log_probs[goes]

    def _balance(self, step: Step, parents: Ints, copied: list[int], left: list[int], new: Ints) -> None:
        """Copies go to rows that their own request has left; further copies fork, further rows are freed."""
        rows, width = self._state.rows.reshape(-1), self._state.width
        pairs: list[tuple[int, int]] = []
        freed: list[int] = []
        spare = deque(left)
        for place in copied:
            while spare and spare[0] // width < place // width:
                freed.append(spare.popleft())
            if spare and spare[0] // width == place // width:
                pairs.append((place, spare.popleft()))
            else:
                new[place] = step.changes.fork(int(rows[parents[place]]))
        step.changes.free(rows[[*freed, *spare]].tolist())
        if pairs:
            places, targets = np.array(pairs).T
            targets = rows[targets]
            step.changes.replace(new[places], targets)
            new[places] = targets
