"""Classify, Tag, FillMask and Embed: from the wire to the engine and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.encoder_codec import Masked, Words
from dragoman_server.pass_request import PassCompletion
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
        read = await self.read(reading, deadline)
        return classify_response(request, reading, read[0].output), _served(reading, read)

    async def tag(
        self, request: inference_pb2.TagRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.TagResponse, Served]:
        """The spans of a text."""
        reading = await checked(check_tag, request, catalogue)
        read = await self.read(reading, deadline)
        return tag_response(request, reading, read[0].output), _served(reading, read)

    async def fill_mask(
        self, request: inference_pb2.FillMaskRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.FillMaskResponse, Served]:
        """What the masks of a text may hide."""
        reading = await checked(check_fill_mask, request, catalogue)
        read = await self.read(reading, deadline)
        # Thousands of candidates take a while to spell.
        response = await asyncio.to_thread(fill_mask_response, request, reading, read[0].output)
        return response, _served(reading, read)

    async def embed(
        self, request: inference_pb2.EmbedRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.EmbedResponse, Served]:
        """A vector for each text."""
        reading = await checked(check_embed, request, catalogue)
        read = await self.read(reading, deadline)
        outputs = [completion.output for completion in read]
        if len(outputs) <= _FEW:
            return embed_response(request, reading, outputs), _served(reading, read)
        return await asyncio.to_thread(embed_response, request, reading, outputs), _served(reading, read)

    async def read(
        self, reading: Reading[Words] | Reading[Masked] | Reading[None], deadline: float | None
    ) -> list[PassCompletion]:
        """What the model says of each input; when the call ends first, its passes are cancelled."""
        job = await completed(lambda done: ReadingJob(reading, deadline, self._mailbox, done))
        return job.finished()


def _served(reading: Reading[Words] | Reading[Masked] | Reading[None], read: Sequence[PassCompletion]) -> Served:
    return Served(receipt_of(read), reading.host)
