"""Generate: a text as it is decoded, in as few chunks as the reader takes, on through as many windows as it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial

from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import Overloaded, ServerError
from dragoman_server.request import Completion, Outcome, Progress, Request
from dragoman_server.service.continuing import ContinuedText
from dragoman_server.service.gathering import pause
from dragoman_server.service.generations import Generation
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.responses import generate_response


class GenerationJob:
    """One text on its way through the engine: a request for each part, one after the other.

    Belongs to the event loop's thread. ``changed`` is called by the loop whenever a part has ended, and when all is
    over; ``progress`` by a lane's thread, with the number of the part.
    """

    def __init__(
        self,
        generation: Generation,
        deadline: float | None,
        mailbox: Mailbox,
        changed: Callable[[], None],
        progress: Callable[[int, Progress], None] | None = None,
    ) -> None:
        self.completions: list[Completion] = []
        """Of the parts that have ended."""
        self.over = False
        """All parts have ended, or one has failed."""
        self._generation = generation
        self._deadline = deadline
        self._mailbox = mailbox
        self._changed = changed
        self._progress = progress
        self._produced: list[int] = []
        self._request: Request | None = None
        self._error: ServerError | None = None
        self._cancelled = False

    def start(self) -> None:
        """Submit the first part; raises the engine's refusal."""
        self._submit()

    def cancel(self) -> None:
        """Ask the engine to end what is under way; no other part begins."""
        self._cancelled = True
        if self._request is not None:
            self._request.cancel()

    def finished(self) -> list[Completion]:
        """The completions of all parts; raises what the job failed with."""
        if self._error is not None:
            raise self._error
        return self.completions

    def _submit(self) -> None:
        prompt, options = self._generation.part(self._produced)
        number = len(self.completions)
        request = Request(
            prompt,
            options,
            self._reply,
            self._deadline,
            self._generation.priority,
            None if self._progress is None else partial(self._progress, number),
        )
        self._generation.host.engine.submit(request)
        self._request = request

    def _reply(self, outcome: Outcome) -> None:
        self._mailbox.post(partial(self._settle, outcome))

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome, ServerError):
            self._end(outcome)
            return
        self.completions.append(outcome)
        self._produced += outcome.best.token_ids
        if self._generation.goes_on(self.completions):
            self._changed()
            self._go_on()
        else:
            self._end(None)

    def _go_on(self) -> None:
        if self._cancelled:
            return
        try:
            self._submit()
        except Overloaded as refusal:
            # What has begun is not given up because others came meanwhile; its deadline holds all the same.
            asyncio.get_running_loop().call_later(pause(refusal), self._go_on)
        except ServerError as error:
            self._end(error)

    def _end(self, error: ServerError | None) -> None:
        self._error, self.over = error, True
        self._changed()


async def completed_parts(generation: Generation, deadline: float | None, mailbox: Mailbox) -> list[Completion]:
    """Hand a text to the engine and wait for all its parts; when the call ends first, they are cancelled."""
    news = asyncio.Event()
    job = GenerationJob(generation, deadline, mailbox, news.set)
    try:
        job.start()
        while not job.over:
            await news.wait()
            news.clear()
        return job.finished()
    finally:
        job.cancel()


class GenerationStream:
    """One call. The lane leaves the latest progress, and never waits; whatever the reader misses meanwhile is in the
    next chunk.
    """

    def __init__(self, generation: Generation, deadline: float | None, mailbox: Mailbox) -> None:
        self._generation = generation
        self._mailbox = mailbox
        self._news = asyncio.Event()
        self._told = False
        self._latest: tuple[int, Progress] | None = None
        stop = generation.options.stop
        self._text = ContinuedText(generation.host.codec, stop.strings if stop else ())
        self._part = 0
        """The part that the text is at."""
        self.job = GenerationJob(generation, deadline, mailbox, self._news.set, self._note)

    async def chunks(self) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """The chunks; raises what the call fails with. What is under way is cancelled when this is closed."""
        try:
            self.job.start()
            shown, length = "", 0
            while True:
                await self._news.wait()
                self._news.clear()
                self._told = False
                if self.job.over:
                    break
                self._read()
                delta, provisional = self._text.read(), self._text.provisional
                if delta or provisional != shown:
                    shown = provisional
                    length += len(delta)
                    yield inference_pb2.GenerateChunk(final_text_delta=delta, provisional_text=provisional)
            response = generate_response(self._generation, self.job.finished())
            rest = response.hypotheses[0].text[length:]
            yield inference_pb2.GenerateChunk(final_text_delta=rest, response=response)
        finally:
            self.job.cancel()

    def _read(self) -> None:
        for completion in self.job.completions[self._part :]:
            self._text.go_on(completion.best.token_ids)
            self._part += 1
        if self._latest is not None and self._latest[0] == self._part:
            self._text.update(self._latest[1])

    def _note(self, part: int, progress: Progress) -> None:
        """A lane's thread: leave what is new, and wake the stream unless it has been woken."""
        self._latest = part, progress
        if not self._told:
            self._told = True
            self._mailbox.post(self._news.set)
