"""Whether any of many submissions was cancelled or has expired, mostly told without a look at each. Pure Python."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from math import inf
from typing import Any, Generic

from dragoman_server.submission import Submission, SubmissionT, cancellations


class Endings:
    """Of submissions that come and go: no deadline comes before the nearest of all that were added since the last look.

    Used by one thread at a time.
    """

    __slots__ = ("_nearest", "_noted")

    def __init__(self) -> None:
        self._nearest = inf
        self._noted: object = cancellations.latest

    def add(self, submission: Submission[Any, Any]) -> None:
        """One more."""
        if submission.deadline is not None and submission.deadline < self._nearest:
            self._nearest = submission.deadline
        if submission.cancelled:
            self._noted = None

    def possible(self, now: float) -> bool:
        """Whether some may have ended, so that each has to be looked at."""
        return now >= self._nearest or self._noted is not cancellations.latest

    def look(self) -> None:
        """All are looked at from now on; those that have not ended are to be added again."""
        # Noted before the look: whoever is cancelled during it is seen by this one or by the next.
        self._nearest, self._noted = inf, cancellations.latest


class Running(Collection[SubmissionT], Generic[SubmissionT]):
    """What a lane works on, in the order in which it was added. Changed by one thread; any may look through it."""

    __slots__ = ("_endings", "_submissions", "rows")

    def __init__(self, submissions: Iterable[SubmissionT] = ()) -> None:
        self._submissions: dict[SubmissionT, None] = {}
        self._endings = Endings()
        self.rows = 0
        """That are reserved for all of them."""
        self.add(submissions)

    def __len__(self) -> int:
        return len(self._submissions)

    def __iter__(self) -> Iterator[SubmissionT]:
        return iter(list(self._submissions))  # at once: it may change meanwhile

    def __contains__(self, submission: object) -> bool:
        return submission in self._submissions

    def add(self, submissions: Iterable[SubmissionT]) -> None:
        """These as well."""
        for submission in submissions:
            self._submissions[submission] = None
            self.rows += submission.width
            self._endings.add(submission)

    def remove(self, submissions: Iterable[SubmissionT]) -> None:
        """Not these any more; those that are not here are passed over."""
        for submission in submissions:
            if submission in self._submissions:
                del self._submissions[submission]
                self.rows -= submission.width

    def clear(self) -> list[SubmissionT]:
        """None any more; returns all."""
        submissions, self._submissions, self.rows = list(self._submissions), {}, 0
        return submissions

    def may_have_ended(self, now: float) -> bool:
        """Whether each has to be asked, which ``ended`` does."""
        return self._endings.possible(now)

    def ended(self, now: float) -> list[SubmissionT]:
        """Those that were cancelled or have expired; they stay."""
        if not self._endings.possible(now):
            return []
        self._endings.look()
        gone = []
        for submission in self._submissions:
            if submission.cancelled or submission.expired(now):
                gone.append(submission)
            self._endings.add(submission)
        return gone
