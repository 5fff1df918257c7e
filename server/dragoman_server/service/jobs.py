"""One translation on its way through the engine: a request for each segment, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dragoman_server.request import Completion, Outcome, Progress, Request
from dragoman_server.service.gathering import Gathering
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.translations import Segment, Translation


class Job(Gathering[Request, Completion]):
    """``completions`` are those of the translated segments, in their order.

    ``progress`` is handed what the engine says of a segment by its number among the translated ones, in the lane's
    thread.
    """

    __slots__ = ("_deadline", "_progress", "_segments", "translation")

    def __init__(
        self,
        translation: Translation,
        deadline: float | None,
        mailbox: Mailbox,
        done: Callable[[Job], None],
        progress: Callable[[int, Progress], None] | None = None,
    ) -> None:
        self.translation = translation
        self._segments: Sequence[Segment] = translation.translated
        self._deadline = deadline
        self._progress = progress
        super().__init__(len(self._segments), mailbox, partial(done, self))

    def _request(self, number: int, reply: Callable[[Outcome], None]) -> Request:
        segment = self._segments[number]
        assert segment.options is not None
        return Request(
            segment.source_ids,
            segment.options,
            reply,
            self._deadline,
            self.translation.priority,
            None if self._progress is None else partial(self._progress, number),
        )

    def _submit(self, request: Request) -> None:
        self.translation.host.engine.submit(request)
