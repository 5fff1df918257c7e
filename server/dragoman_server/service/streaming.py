"""StreamTranslate: the text as it is decoded, in as few chunks as the reader takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from dragoman_protos.v1 import inference_pb2
from dragoman_server.request import Progress
from dragoman_server.service.growing import GrowingText
from dragoman_server.service.jobs import Job
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.responses import answer_text, translate_response
from dragoman_server.service.translations import Segment, Translation


class TranslationStream:
    """One call. The lanes leave the latest progress of each segment, and never wait; whatever the reader misses
    meanwhile is in the next chunk.
    """

    def __init__(self, translation: Translation, deadline: float | None, mailbox: Mailbox) -> None:
        self._translation = translation
        self._mailbox = mailbox
        self._news = asyncio.Event()
        self._told = False
        self._latest: dict[int, Progress] = {}
        self._ended = False
        self._segments = _Unread(translation)
        self.job = Job(translation, deadline, mailbox, self._done, self._note)

    async def chunks(self) -> AsyncGenerator[inference_pb2.TranslateChunk, None]:
        """The chunks; raises what the call fails with. What is under way is cancelled when this is closed."""
        try:
            self.job.start()
            shown = ""
            while True:
                await self._news.wait()
                self._news.clear()
                self._told = False
                if self._ended:
                    break
                delta, provisional = self._segments.read(self._latest, self.job)
                if delta or provisional != shown:
                    shown = provisional
                    yield inference_pb2.TranslateChunk(final_text_delta=delta, provisional_text=provisional)
            response = translate_response(self._translation, self.job.finished())
            rest = response.hypotheses[0].text[self._segments.length :]
            yield inference_pb2.TranslateChunk(final_text_delta=rest, response=response)
        finally:
            self.job.cancel()

    def _note(self, number: int, progress: Progress) -> None:
        """A lane's thread: leave what is new, and wake the stream unless it has been woken."""
        self._latest[number] = progress
        if not self._told:
            self._told = True
            self._mailbox.post(self._news.set)

    def _done(self, _: Job) -> None:
        self._ended = True
        self._news.set()


class _Unread:
    """Reads on through the segments: those that have ended, then the first that grows."""

    def __init__(self, translation: Translation) -> None:
        self.length = 0
        """Characters of final text so far."""
        self._translation = translation
        self._next = 0
        """Segment, and its number among the translated ones."""
        self._number = 0
        self._read = 0
        """In the source: what stands before it is in the text."""
        self._growing: GrowingText | None = None
        self._given = 0
        """Characters of the growing segment that are in the text."""

    def read(self, latest: dict[int, Progress], job: Job) -> tuple[str, str]:
        """What has become final, and what is provisional after it."""
        parts: list[str] = []
        provisional = ""
        translation = self._translation
        while self._next < len(translation.segments):
            segment = translation.segments[self._next]
            parts.append(translation.text[self._read : segment.begin])
            self._read = max(self._read, segment.begin)
            if segment.source_ids:
                text = self._ended_text(segment, job)
                if text is None:
                    provisional = self._grow(segment, latest, parts)
                    break
                parts.append(text[self._given :])
                latest.pop(self._number, None)
                self._number += 1
            else:
                parts.append(translation.source_of(segment))
            self._read, self._next, self._growing, self._given = segment.end, self._next + 1, None, 0
        delta = "".join(parts)
        self.length += len(delta)
        return delta, provisional

    def _ended_text(self, segment: Segment, job: Job) -> str | None:
        completion = job.completions[self._number] if self._number < len(job.completions) else None
        return None if completion is None else answer_text(completion.best, segment, self._translation)

    def _grow(self, segment: Segment, latest: dict[int, Progress], parts: list[str]) -> str:
        if self._growing is None:
            host = self._translation.host
            stop = segment.options.stop if segment.options else None
            unknown = host.unknown_id if self._translation.replaces_unknowns else None
            self._growing = GrowingText(host.codec, stops=stop.strings if stop else (), unknown_id=unknown)
        if progress := latest.get(self._number):
            self._growing.update(progress)
        parts.append(self._growing.final[self._given :])
        self._given = len(self._growing.final)
        return self._growing.provisional
