"""Several submissions to an engine that are one job: all of them succeed, or one fails and the others are cancelled."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from dragoman_server.errors import Overloaded, ServerError
from dragoman_server.lanes import LATE
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.submission import CompletionT, SubmissionT

_LONGEST_PAUSE = 0.05
"""Seconds before a full queue is asked again, at most."""


class Gathering(ABC, Generic[SubmissionT, CompletionT]):
    """Belongs to the event loop's thread. ``done`` is called once, by the loop: all have their completion, or one has
    failed.
    """

    __slots__ = ("_done", "_left", "_mailbox", "_requests", "_size", "completions", "error")

    def __init__(self, size: int, mailbox: Mailbox, done: Callable[[], None]) -> None:
        self.completions: list[CompletionT | None] = []
        """In the order of the submissions."""
        self.error: ServerError | None = None
        self._size = self._left = size
        self._requests: list[SubmissionT] = []
        self._mailbox = mailbox
        self._done = done

    @abstractmethod
    def _request(self, number: int, reply: Callable[[CompletionT | ServerError], None]) -> SubmissionT:
        """The submission of that number."""

    @abstractmethod
    def _submit(self, request: SubmissionT) -> None:
        """Hand it to the engine."""

    @property
    def weight(self) -> int:
        """Requests that it makes, at least 1."""
        return self._size or 1

    def start(self) -> None:
        """Submit all requests. Raises the engine's refusal of the first, and that of any which would end too late.

        Where the queue fills up after the first, the others follow by and by.
        """
        refusal = self.submit()
        if refusal is not None and not self._requests:
            raise refusal
        self._later(refusal)

    def submit(self) -> Overloaded | None:
        """Submit what is not submitted yet; the refusal where the queue is full, and then to be called again.

        Raises any other error of the engine, with what was submitted cancelled: a refusal, too, where one would not end
        before the deadline, since waiting makes that no better. What was taken without being judged goes on then.
        """
        if not self._size:
            self._mailbox.post(self._done)
            return None
        for number in range(len(self._requests), self._size):
            if self.error is not None:
                return None
            request = self._request(number, partial(self._reply, number))
            try:
                self._submit(request)
            except Overloaded as refusal:
                if refusal.reason != LATE:
                    return refusal
                for submitted in self._requests:
                    # What an idle engine took to measure by is decoded: else it would refuse all others for ever.
                    if not submitted.unjudged:
                        submitted.cancel()
                raise
            except BaseException:
                self.cancel()
                raise
            self._requests.append(request)
            self.completions.append(None)
        return None

    def cancel(self) -> None:
        """Ask the engine to end what is under way; ``done`` may still be called."""
        for request in self._requests:
            request.cancel()

    def finished(self) -> list[CompletionT]:
        """The completions; raises what the job failed with."""
        if self.error is not None:
            raise self.error
        return [completion for completion in self.completions if completion is not None]

    def _later(self, refusal: Overloaded | None) -> None:
        if refusal is not None:
            asyncio.get_running_loop().call_later(pause(refusal), self._go_on)

    def _go_on(self) -> None:
        try:
            self._later(self.submit())
        except ServerError as error:
            self._fail(error)

    def _reply(self, number: int, outcome: CompletionT | ServerError) -> None:
        self._mailbox.post(partial(self._settle, number, outcome))

    def _settle(self, number: int, outcome: CompletionT | ServerError) -> None:
        if self.error is not None:
            return
        if isinstance(outcome, ServerError):
            self._fail(outcome)
            return
        self.completions[number] = outcome
        self._left -= 1
        if not self._left:
            self._done()

    def _fail(self, error: ServerError) -> None:
        if self.error is None:
            self.error = error
            self.cancel()
            self._done()


GatheringT = TypeVar("GatheringT", bound=Gathering[Any, Any])


async def completed(make: Callable[[Callable[[], None]], GatheringT]) -> GatheringT:
    """Start the job that ``make`` makes of its ``done``, and wait for it; when the call ends first, it is cancelled."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done() -> None:
        if not ended.done():  # the call may have ended meanwhile
            ended.set_result(None)

    job = make(done)
    job.start()
    try:
        await ended
    except asyncio.CancelledError:  # the caller cancelled or went away, or its deadline passed
        job.cancel()
        raise
    return job


def pause(refusal: Overloaded) -> float:
    """Seconds to wait before a full queue is asked again."""
    return min(refusal.retry_after, _LONGEST_PAUSE)
