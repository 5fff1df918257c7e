"""Everything that decodes in one lane: requests join, each step advances all of them, and those that are done leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dragoman_server.decoding.beam import Beams
from dragoman_server.decoding.beam_state import Advanced
from dragoman_server.decoding.candidates import Candidates
from dragoman_server.decoding.choosers import CandidateSampler, Likeliest, VocabularySampler
from dragoman_server.decoding.ending import answer
from dragoman_server.decoding.growing import Ended, growth_of
from dragoman_server.decoding.independent import Independent
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.prefixes import Prefixes
from dragoman_server.decoding.progress import Progress, progress_of
from dragoman_server.decoding.step import Group, Step
from dragoman_server.decoding.table import HypothesisTable, Ints, Task, steps_with_logits
from dragoman_server.row_changes import Relocation, RowChanges, settle
from dragoman_server.rows import Moves, RowTable

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput, StepRuntime

Copies = list[Moves]
"""For the caches: to be carried out one after the other; within one, no row is both read and written."""


class Advance(NamedTuple):
    """What came of a step."""

    finished: list[Task]
    """Their answers are complete, and their rows free."""
    failed: dict[Task, Exception]
    """So are the rows of these."""
    copies: Copies
    nonfinite_rows: int = 0
    """Rows whose scores were no numbers: what failed owns them."""


_GROWN = Advance([], {}, [])
"""Of a step that nobody ended with, and that moved no row; never changed."""


class Batch:
    """The hypotheses of a lane, each in a row; plain greedy ones apart, they are in groups that are decoded alike.

    Rows are the runtime's, and the caller carries out there what is copied here. ``source_capacity`` is the longest
    source that hypotheses may attend to.
    """

    def __init__(self, runtime: StepRuntime, *, eos: int, source_capacity: int = 0) -> None:
        self.rows = RowTable(runtime.max_rows)
        self.table = HypothesisTable(runtime.max_rows, runtime.target_capacity, source_capacity, runtime.kernels)
        self._eos, self._top_k = eos, runtime.top_k
        self._longest, self._kernels = runtime.target_capacity, runtime.kernels
        self._growth = growth_of(self.table, eos, runtime.kernels)
        self._no_rows: Ints = np.zeros(0, np.int64)
        self._groups: dict[object, Group] = {}
        self._plain: set[Task] = set()
        """All that are plain greedy; the others are in groups."""
        self._searching: set[Task] = set()
        self._reading: set[Task] = set()
        """Those that need logits at some step."""
        self._attending: set[Task] = set()

    @property
    def tokens(self) -> Ints:
        """(live rows,): what is fed next; the rows are settled."""
        assert self.rows.settled, "rows must be settled before a step"
        tokens: Ints = self.table.tokens[: self.rows.used]
        return tokens

    @property
    def needs_logits(self) -> bool:
        """Whether the next step has to give the logits."""
        return bool(self._reading) and len(self._rows_that_read()) > 0

    @property
    def needs_attention(self) -> bool:
        """Whether the next step has to give the attention to the source."""
        return bool(self._attending)

    def join(self, task: Task, token: int, begin: int = 0) -> int:
        """Take the task in; returns its row, to which ``token`` is fed first, at position ``begin`` of the caches."""
        row, options = self.rows.allocate(), task.options
        # Plain greedy search looks at the likeliest token alone.
        until = 0 if options.plain else steps_with_logits(options, self._top_k)
        self.table.start(row, task, token, until, begin)
        if options.attends:
            self._attending.add(task)
        if until:
            self._reading.add(task)
        if options.plain:
            self._plain.add(task)
        else:
            self._searching.add(task)
            self._group(options, prefixed=not options.prefix).add(task, row, 0.0)
        return row

    def leave(self, tasks: Iterable[Task]) -> None:
        """Let tasks go, wherever they stand; those that are not here are passed over."""
        gone = set(tasks)
        changes = RowChanges(self.table)
        changes.free([row for row, owner in enumerate(self._owners()) if owner in gone])
        if gone & self._searching:
            for group in self._groups.values():
                group.drop(gone)
        self._forget(gone)
        changes.apply(self.rows)

    def settle(self) -> Copies:
        """What has to be copied before the next step, so that it finds its rows side by side."""
        if self.rows.settled:
            return []
        copies, moved = settle(self.rows, self.table)
        self._relocate(moved)
        return copies

    def clear(self) -> None:
        """Let all go."""
        self.table.release(range(self.rows.end))
        self.rows.clear()
        self._groups.clear()
        for tasks in (self._plain, self._searching, self._reading, self._attending):
            tasks.clear()

    def advance(self, output: StepOutput) -> Advance:
        """Take one step's output in: every live row ends or grows by one token."""
        if not (self._searching or self._reading or self._attending):
            ended = self._growth.grow(output, self.rows.used)
            if ended is not None:
                return self._end_rows(ended) if ended.rows else _GROWN
        elif (beams := self._only_beams()) is not None:
            found = beams.advance_alone(output, self.table, self._eos)
            if found is not None:
                return self._change_rows(*found)
        if self._attending:
            assert output.attention is not None, "the step was run without attention"
            self.table.attend(self.rows.used, output.attention)
        step = Step(self.table, Candidates(output, self.table, self._rows_that_read(), self._eos), self._eos)
        if self._searching:
            for group in self._groups.values():
                if group.tasks:
                    group.advance(step)
            for task, row, score in step.begun:
                self._group(task.options, prefixed=True).add(task, row, score)
        if self._plain:
            self._end_plain(step)
        copies = self._apply(step.changes)
        if step.finished:
            self._forget(step.finished)
        if step.failed:
            self.leave(step.failed)
            step.finished = [task for task in step.finished if task not in step.failed]
        return Advance(step.finished, step.failed, copies, len(step.candidates.faults))

    def _only_beams(self) -> Beams | None:
        """The beams of one size that all rows are, where they need nothing but the graph's candidates."""
        if self._plain or self._reading or self._attending:
            return None
        first, *others = [group for group in self._groups.values() if group.tasks]
        return first if isinstance(first, Beams) and not others else None

    def _end_rows(self, ended: Ended) -> Advance:
        """These end, where all rows are plain greedy; the others have grown."""
        table, rows = self.table, ended.rows
        failed = answer(table, *ended, eos=self._eos)
        finished: list[Task] = table.owners[rows].tolist()
        self._forget(finished)
        changes = RowChanges(table)
        changes.free(rows)
        changes.apply(self.rows)
        return Advance([task for task in finished if task not in failed] if failed else finished, failed, [])

    def _change_rows(self, finished: list[Task], advanced: Advanced) -> Advance:
        """These are done, where all rows are those of beams; what else the step did to rows is done."""
        moves = advanced.replaced
        if not (advanced.forked or advanced.freed):
            return Advance([], {}, [moves]) if len(moves) else _GROWN
        changes = RowChanges(self.table)
        if len(moves):
            changes.replace(moves.sources, moves.targets)
        changes.fork_all(advanced.forked)
        changes.free(advanced.freed)
        copies = self._apply(changes)
        if finished:
            self._forget(finished)
        return Advance(finished, {}, copies)

    def progress(self, task: Task) -> Progress:
        """What a task that is here has come to."""
        return progress_of(self.table, task, [row for row, owner in enumerate(self._owners()) if owner is task])

    def _owners(self) -> list[Task | None]:
        owners: list[Task | None] = self.table.owners[: self.rows.end].tolist()
        return owners

    def _rows_that_read(self) -> Ints:
        return self.table.reading(self.rows.used) if self._reading else self._no_rows

    def _end_plain(self, step: Step) -> None:
        table, live = self.table, self.rows.used
        ends = step.ids[:live] == self._eos
        ends |= table.steps[:live] == table.last[:live]
        if self._searching:
            ends &= table.plain[:live] > 0
        rows: list[int] = ends.nonzero()[0].tolist()
        if rows:
            step.answer(rows, step.ids[rows].tolist(), step.log_probs[rows].tolist())
            step.finished += table.owners[rows].tolist()
            step.changes.free(rows)

    def _apply(self, changes: RowChanges) -> Copies:
        """Carry out what a step changes, and append what comes next to each row; in a free one nobody reads it."""
        copies, forked = changes.apply(self.rows)
        if forked is not None:
            self._relocate(forked)
            self.table.next[forked.rows] = self.table.next[forked.numbers]
        self.table.append(self.rows.end)
        return copies

    def _relocate(self, moved: Relocation | None) -> None:
        if moved is not None and self._searching:
            places = moved.places(2 * self.rows.capacity)
            for group in self._groups.values():
                if group.tasks:
                    group.relocate(places)

    def _forget(self, tasks: Iterable[Task]) -> None:
        for those in (self._plain, self._searching, self._reading, self._attending):
            those.difference_update(tasks)

    def _group(self, options: DecodingOptions, *, prefixed: bool) -> Group:
        """The group of requests that are decoded like this, once their prefix stands."""
        kind, make = self._kind(options) if prefixed else (Prefixes, Prefixes)
        if kind not in self._groups:
            self._groups[kind] = make()
        return self._groups[kind]

    def _kind(self, options: DecodingOptions) -> tuple[object, Callable[[], Group]]:
        if options.beam_size > 1:
            return options.beam_size, lambda: Beams(options.beam_size, self.rows.capacity, self._longest, self._kernels)
        if not options.sampling:
            return Likeliest, lambda: Independent(Likeliest())
        if 1 <= options.sampling.top_k <= self._top_k:
            return CandidateSampler, lambda: Independent(CandidateSampler(self._top_k))
        return VocabularySampler, lambda: Independent(VocabularySampler())
