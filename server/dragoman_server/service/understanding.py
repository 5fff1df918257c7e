"""Classify, Tag, FillMask and Embed: from the wire to the engine and back."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.encoder_codec import Masked, Words
from dragoman_server.pass_runtime import EncoderOutput
from dragoman_server.service.gathering import completed
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.reading_jobs import Reading, ReadingJob, receipt_of
from dragoman_server.service.reading_requests import (
    check_classify,
    check_embed,
    check_fill_mask,
    check_tag,
    checked,
)
from dragoman_server.service.reading_responses import (
    classify_response,
    embed_response,
    fill_mask_response,
    tag_response,
)
from dragoman_server.service.receipt import Served

_FEW = 8
"""Vectors that are made in no time."""


class Understanding:
    """Each method gives an answer and its receipt; ``deadline`` is on the monotonic clock.

    Raises InvalidArgument, NotFound, and whatever the engine ends a request with.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def classify(
        self, request: inference_pb2.ClassifyRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.ClassifyResponse, Served]:
        """The labels of a text, or of a pair."""
        reading = await checked(check_classify, request, catalogue)
        read = await self._read(reading, deadline)
        return classify_response(request, reading, read.outputs[0]), read.served

    async def tag(
        self, request: inference_pb2.TagRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.TagResponse, Served]:
        """The spans of a text."""
        reading = await checked(check_tag, request, catalogue)
        read = await self._read(reading, deadline)
        return tag_response(request, reading, read.outputs[0]), read.served

    async def fill_mask(
        self, request: inference_pb2.FillMaskRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.FillMaskResponse, Served]:
        """What the masks of a text may hide."""
        reading = await checked(check_fill_mask, request, catalogue)
        read = await self._read(reading, deadline)
        # Thousands of candidates take a while to spell.
        return await asyncio.to_thread(fill_mask_response, request, reading, read.outputs[0]), read.served

    async def embed(
        self, request: inference_pb2.EmbedRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.EmbedResponse, Served]:
        """A vector for each text."""
        reading = await checked(check_embed, request, catalogue)
        read = await self._read(reading, deadline)
        if len(read.outputs) <= _FEW:
            return embed_response(request, reading, read.outputs), read.served
        return await asyncio.to_thread(embed_response, request, reading, read.outputs), read.served

    async def _read(self, reading: Reading[Words | Masked | None], deadline: float | None) -> _Read:
        job = await completed(lambda done: ReadingJob(reading, deadline, self._mailbox, done))
        completions = job.finished()
        served = Served(receipt_of(completions), reading.host)
        return _Read([completion.output for completion in completions], served)


class _Read(NamedTuple):
    outputs: list[EncoderOutput]
    served: Served
