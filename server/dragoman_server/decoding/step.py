"""One step of a lane's decoding while it is being taken: what every kind of decoding reads and writes."""

from __future__ import annotations

from typing import Protocol

from dragoman_server.decoding.candidates import Candidates
from dragoman_server.decoding.ending import Ending, answer, answer_if_wanted, stopped
from dragoman_server.decoding.table import HypothesisTable, Ints, Task
from dragoman_server.row_changes import RowChanges


class Step:
    """What comes next for each row is written to ``ids`` and ``log_probs``; for plain greedy it stands there already.

    Both are (2 x rows,): rows first, then the forks that have no row yet, by the numbers that ``changes`` gave them.
    """

    def __init__(self, table: HypothesisTable, candidates: Candidates, eos: int) -> None:
        self.table, self.candidates, self.eos = table, candidates, eos
        live = len(candidates.ids)
        self.ids, self.log_probs = table.next_ids, table.next_log_probs
        self.ids[:live], self.log_probs[:live] = candidates.ids[:, 0], candidates.log_probs[:, 0]
        self.changes = RowChanges(table)
        self.finished: list[Task] = []
        """Tasks whose answers are complete; their rows were freed."""
        self.begun: list[tuple[Task, int, float]] = []
        """Tasks that the next step decodes in another way: each with its row and score."""
        self.failed: dict[Task, Exception] = {table.owners[row]: error for row, error in candidates.faults.items()}
        """Tasks that go on all the same, until the step has been taken."""

    def answer(self, rows: list[int], token_ids: list[int], log_probs: list[float]) -> None:
        """The hypothesis in each of these rows ends with its token; in this order."""
        self.failed |= answer(self.table, rows, self.table.pasts(rows), token_ids, log_probs, eos=self.eos)

    def answer_if_wanted(self, task: Task, ending: Ending) -> None:
        """The same of a hypothesis of a beam, if it may be wanted."""
        try:
            answer_if_wanted(self.table, task, ending, eos=self.eos)
        except Exception as error:  # as below
            self.failed[task] = error

    def stopped(self, row: int, token_id: int) -> bool:
        """Whether the token completes a stop sequence; where that cannot be told, the task fails."""
        try:
            return stopped(self.table, row, token_id)
        except Exception as error:  # the text's decoder is not ours, and none of it concerns other tasks
            self.failed[self.table.owners[row]] = error
            return False


class Group(Protocol):
    """Tasks that are decoded in the same way, and so at one time."""

    tasks: list[Task]

    def add(self, task: Task, row: int, score: float) -> None:
        """The task goes on from this row, where its log-probabilities so far add up to ``score``."""

    def drop(self, gone: set[Task]) -> None:
        """These are decoded no more; some may not be of this group."""

    def relocate(self, places: Ints) -> None:
        """Row i is now row ``places[i]``."""

    def advance(self, step: Step) -> None:
        """Decide what comes next in all rows of the group."""
