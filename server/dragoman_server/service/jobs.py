"""One translation on its way through the engine: a request for each segment, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from dragoman_server.errors import Overloaded, ServerError
from dragoman_server.request import Completion, Outcome, Progress, Request
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.translations import Segment, Translation

_LONGEST_PAUSE = 0.05
"""Seconds before a full queue is asked again, at most."""


class Job:
    """Belongs to the event loop's thread. ``done`` is called once, by the loop: every segment has its completion, or
    one has failed and the others are cancelled.

    ``progress`` is handed what the engine says of a segment by its number among the translated ones, in the lane's
    thread.
    """

    __slots__ = (
        "_deadline",
        "_done",
        "_left",
        "_mailbox",
        "_progress",
        "_requests",
        "_segments",
        "completions",
        "error",
        "translation",
    )

    def __init__(
        self,
        translation: Translation,
        deadline: float | None,
        mailbox: Mailbox,
        done: Callable[[Job], None],
        progress: Callable[[int, Progress], None] | None = None,
    ) -> None:
        self.translation = translation
        self.completions: list[Completion | None] = []
        """Of the translated segments, in their order."""
        self.error: ServerError | None = None
        self._segments: Sequence[Segment] = translation.translated
        self._left = len(self._segments)
        self._requests: list[Request] = []
        self._deadline = deadline
        self._mailbox = mailbox
        self._done = done
        self._progress = progress

    @property
    def weight(self) -> int:
        """Requests that it makes, at least 1."""
        return len(self._segments) or 1

    def start(self) -> None:
        """Submit all requests. Raises the engine's refusal of the first; where the queue fills up after it, the others
        follow by and by.
        """
        refusal = self.submit()
        if refusal is not None and not self._requests:
            raise refusal
        self._later(refusal)

    def submit(self) -> Overloaded | None:
        """Submit what is not submitted yet; the refusal where the queue is full, and then to be called again.

        Raises any other error of the engine, with what was submitted cancelled.
        """
        engine = self.translation.host.engine
        if not self._segments:
            self._mailbox.post(partial(self._done, self))
            return None
        for number in range(len(self._requests), len(self._segments)):
            if self.error is not None:
                return None
            segment = self._segments[number]
            assert segment.options is not None
            request = Request(
                segment.source_ids,
                segment.options,
                partial(self._reply, number),
                self._deadline,
                self.translation.priority,
                None if self._progress is None else partial(self._progress, number),
            )
            try:
                engine.submit(request)
            except Overloaded as refusal:
                return refusal
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

    def finished(self) -> list[Completion]:
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

    def _reply(self, number: int, outcome: Outcome) -> None:
        self._mailbox.post(partial(self._settle, number, outcome))

    def _settle(self, number: int, outcome: Outcome) -> None:
        if self.error is not None:
            return
        if isinstance(outcome, ServerError):
            self._fail(outcome)
            return
        self.completions[number] = outcome
        self._left -= 1
        if not self._left:
            self._done(self)

    def _fail(self, error: ServerError) -> None:
        if self.error is None:
            self.error = error
            self.cancel()
            self._done(self)


def pause(refusal: Overloaded) -> float:
    """Seconds to wait before a full queue is asked again."""
    return min(refusal.retry_after, _LONGEST_PAUSE)
