"""The live hypotheses of a lane as arrays over its rows: who owns a row, what came so far, and what is fed next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.histories import STEPS, histories_of
from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding.options import DecodingOptions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Trace = tuple[Any, Floats]
"""The attention of the steps before, None at first, and the last step's (source,): forks share what they share."""

Past = tuple[list[int], list[float]]
"""What came so far in a row: tokens, and their log-probabilities."""

History = npt.NDArray[np.integer[Any]]

_SINGLE = 6
"""Numbers of a row that it has one of each."""
ALWAYS = 1 << 62
"""More steps than any hypothesis takes."""


class Task(Protocol):
    """What decoding has to know of a request. It is compared by identity."""

    @property
    def source_ids(self) -> Sequence[int]:
        """The source."""

    @property
    def options(self) -> DecodingOptions:
        """How to decode it."""

    @property
    def answers(self) -> list[Answer]:
        """Its hypotheses that have ended, in the order in which they did; of beams the best that are wanted."""


class HypothesisTable:
    """Row i of every array belongs to the hypothesis in row i of the caches. Rows are copied and moved many at a time.

    Arrays of (rows,) are views of few, so that a copy touches few. ``capacity`` is the most steps of a row, and
    ``source_capacity`` the longest source, 0 where nothing attends to one. What is kept of attention takes memory from
    the first request on that asks. ``library`` has compiled copies; None: numpy copies.
    """

    def __init__(self, max_rows: int, capacity: int, source_capacity: int, library: Path | None = None) -> None:
        # All numbers of a row stand side by side, so that a copy of a row is one of memory: first what there is one of,
        # then for each step the token and its log-probability, 4 bytes each.
        self._numbers = np.zeros((max_rows, _SINGLE + capacity), np.int64)
        self.tokens, self.steps, self.last, self.until, self.begins, self.plain = self._numbers[:, :_SINGLE].T
        """Each (rows,). What is fed next; tokens so far; tokens before the last that may come; steps with logits;
        positions of the caches before that of the first token that is fed; 1: greedy, and nothing else."""
        self._past = self._numbers[:, _SINGLE:]
        self.layout: tuple[int, int, int, int] = self._numbers.ctypes.data, _SINGLE + capacity, STEPS, _SINGLE
        """For compiled code: the address of all numbers of a row, how many there are, and which are the steps and the
        first of what came so far."""
        halves = self._past.view(np.int32)
        self.history = halves[:, ::2]  # (rows, steps)
        self.log_probs = halves[:, 1::2].view(np.float32)  # (rows, steps)
        self.next = np.zeros(2 * max_rows, np.int64)
        """(2 x rows,), and so below: what a step appends to each row, token and log-probability side by side."""
        self.next_address: int = self.next.ctypes.data
        self.next_ids = self.next.view(np.int32)[::2]
        self.next_log_probs = self.next.view(np.float32)[1::2]
        self._histories = histories_of(self._numbers, _SINGLE, self.next, library)
        self.owners: npt.NDArray[np.object_] = np.full(max_rows, None, np.object_)  # (rows,), of Task
        self.covered: Floats | None = None  # (rows, source)
        """How much attention each source id has had in all."""
        self.traces: npt.NDArray[np.object_] | None = None  # (rows,), of Trace
        self._source_capacity = source_capacity
        self._continues = False
        """Whether there was a task that goes on where another has ended."""

    def start(self, row: int, task: Task, token: int, until: int, begin: int = 0) -> None:
        """The row holds an empty hypothesis of the task; ``token`` is fed first, to position ``begin`` of the caches.

        ``until`` as above.
        """
        options = task.options
        self._numbers[row, :_SINGLE] = token, 0, options.max_length - 1, until, begin, options.plain
        self._continues |= bool(options.earlier)
        self.owners[row] = task
        if options.coverage_penalty and self.covered is None:
            self.covered = np.zeros((len(self.owners), self._source_capacity), np.float32)
        if self.covered is not None:
            self.covered[row] = 0
        if options.with_attention and self.traces is None:
            self.traces = np.full(len(self.owners), None, np.object_)
        if self.traces is not None:
            self.traces[row] = None

    def reading(self, count: int) -> Ints:
        """The rows of ``0 .. count - 1`` whose next step needs logits."""
        rows: Ints = (self.steps[:count] < self.until[:count]).nonzero()[0]
        return rows

    def attend(self, count: int, attention: Floats) -> None:
        """Take in what the rows ``0 .. count - 1`` attended to in this step: (count, source)."""
        if self.covered is not None:
            width = min(attention.shape[1], self.covered.shape[1])
            self.covered[:count, :width] += attention[:, :width]
        if self.traces is not None:
            for row, task in enumerate(self.owners[:count].tolist()):
                if task.options.with_attention:
                    self.traces[row] = self.traces[row], attention[row, : len(task.source_ids)].copy()

    def copy(self, sources: Ints, targets: Ints) -> None:
        """Copy all that is known of some rows to others; no row is both."""
        self._histories.copy(sources, targets)
        self.owners[targets] = self.owners[sources]
        self._copy_attention(sources, targets)

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """Copy between rows of one task, which differ in what came so far and nothing else; as ``Histories`` says."""
        kept = self._histories.replace(sources, targets)
        self._copy_attention(sources, targets)
        return kept

    def _copy_attention(self, sources: Ints, targets: Ints) -> None:
        if self.covered is not None:
            self.covered[targets] = self.covered[sources]
        if self.traces is not None:
            self.traces[targets] = self.traces[sources]

    def release(self, rows: Sequence[int]) -> None:
        """These rows are nobody's: what they refer to may go."""
        self.owners[rows] = None
        if self.traces is not None:
            self.traces[rows] = None

    def append(self, count: int) -> None:
        """Every row of ``0 .. count - 1`` grows by its token of ``next_ids``, which is fed next."""
        self._histories.append(count)

    def append_to(self, rows: Ints) -> None:
        """The same of some rows alone."""
        steps = self.steps[rows]
        self._past[rows, steps] = self.next[rows]
        self.steps[rows] = steps + 1
        self.tokens[rows] = self.next_ids[rows]

    def produced(self, rows: Ints) -> tuple[History, Ints]:
        """What the texts of these rows have come to, (rows, tokens), and how many tokens of each row that is (rows,).

        All that came so far, after what had come before where a task goes on with a text.
        """
        lengths = self.steps[rows]
        history: History = self.history[rows, : int(lengths.max())]
        if not self._continues:
            return history, lengths
        earlier = [task.options.earlier for task in self.owners[rows].tolist()]
        before = np.array([len(ids) for ids in earlier])
        whole = np.zeros((len(rows), int((before + lengths).max())), np.int64)
        for at, (ids, count, length) in enumerate(zip(earlier, before.tolist(), lengths.tolist(), strict=True)):
            whole[at, :count] = ids
            whole[at, count : count + length] = history[at, :length]
        return whole, before + lengths

    def pasts(self, rows: list[int]) -> list[Past]:
        """Of each of some rows, one at least."""
        steps: list[int] = self.steps[rows].tolist()
        past = self._past[rows, : max(steps)]
        ids: list[list[int]] = past.view(np.int32)[:, ::2].tolist()
        log_probs: list[list[float]] = past.view(np.float32)[:, 1::2].tolist()
        return [(tokens[:count], scores[:count]) for tokens, scores, count in zip(ids, log_probs, steps, strict=True)]

    def token_ids(self, row: int) -> list[int]:
        """What came so far."""
        ids: list[int] = self.history[row, : int(self.steps[row])].tolist()
        return ids

    def scores(self, row: int) -> list[float]:
        """Its log-probabilities."""
        log_probs: list[float] = self.log_probs[row, : int(self.steps[row])].tolist()
        return log_probs

    def attention(self, row: int) -> Floats:
        """(steps, source), of a task that asked for it."""
        assert self.traces is not None
        found: list[Floats] = []
        trace: Trace | None = self.traces[row]
        while trace:
            trace, weights = trace
            found.append(weights)
        return np.stack(found[::-1])


def steps_with_logits(options: DecodingOptions, top_k: int) -> int:
    """How many steps, from the first, need more than the graph's ``top_k`` candidates; depends on nothing else."""
    if options.penalises or options.restricts or not 1 <= options.candidates <= top_k:
        return ALWAYS
    return max(options.min_length, len(options.prefix))
