"""The client for asyncio: the twin of client.py, with the same methods awaited and async-iterated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Literal, Unpack, overload

from dragoman import models_wire, wire
from dragoman.administration import AsyncAdministration
from dragoman.bulk_tasks import BulkTasks, Texts, checked
from dragoman.decoding import Decoding
from dragoman.errors import DragomanError
from dragoman.explaining import AsyncExplaining
from dragoman.generation import AsyncGeneration
from dragoman.health import AsyncHealthChecks
from dragoman.pending import CONCURRENCY
from dragoman.understanding import AsyncUnderstanding
from dragoman.values import Chunk, Model, ModelDetails, Score, Translation
from dragoman.wire import Segmentation
from dragoman_protos.v1 import inference_pb2, models_pb2


class AsyncClient(AsyncGeneration, AsyncUnderstanding, AsyncExplaining, AsyncAdministration, AsyncHealthChecks):
    """Talks to one Dragoman server, or to several in turn, from one event loop.

    Arguments and errors are those of ``Client``. The connection is opened by the first call, in the running loop.
    """

    async def translate(
        self,
        text: str,
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **decoding: Unpack[Decoding],
    ) -> Translation:
        """Translate one text, of one sentence or of many, into ``target`` (a language that the model lists: "de").

        ``source`` is the text's language, if known; ``model`` None stands for the server's default; ``segmentation``
        says whether the text is split into sentences, "auto" by default; of the texts that wait, those of higher
        ``priority`` go first: 0, the default, to 9. ``decoding`` is every keyword of ``Decoding``, such as
        ``beam_size=4``.
        """
        request = wire.translate_request(
            text,
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        return await self._call(self._inference.Translate, request, timeout, wire.translation)

    def stream_translate(
        self,
        text: str,
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Chunk, None]:
        """The same, as it is decoded; the last chunk holds the translation. Walking away cancels the call.

        It is tried again as any call is until its first chunk has come.
        """
        request = wire.translate_request(
            text,
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        return self._stream(self._inference.StreamTranslate, request, timeout, wire.ChunkReader)

    @overload
    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: Literal[False] = False,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = ...,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation, None]: ...

    @overload
    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: Literal[True],
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = ...,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation | DragomanError, None]: ...

    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: bool = False,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = CONCURRENCY,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation | DragomanError, None]:
        """Translate each text over one stream; answers come in input order.

        ``texts`` is read by a task of its own, so that an answer never waits for the next text, and at most
        ``concurrency`` (1 to 65,536) ahead of the answers. ``timeout`` is the longest wait for any answer. A text that
        fails ends the iteration with its error; with ``return_errors`` the error stands in its place. So does an error
        among the texts, by which a source says what it could not read. A stream that breaks is begun again by the rules
        of ``retry``, with the texts that were not answered. Walking away cancels what is under way.
        """
        self._check_open()
        size = wire.window_size(concurrency)
        template = wire.translate_request(
            "",
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        seconds = wire.timeout_seconds(timeout, self._timeout)
        bulk = BulkTasks(self._open_many, texts, template, size=size, timeout=seconds, retrying=self._retrying)
        return checked(bulk.answers(), return_errors)

    async def score(
        self,
        text: str,
        translation: str,
        *,
        target: str | None = None,
        source: str | None = None,
        model: str | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Score:
        """How likely ``translation`` is to the model as what ``text`` becomes in the language ``target``.

        With a model that generates: how likely ``translation`` is to follow ``text``; there is no ``target`` then.
        """
        request = wire.score_request(
            text, translation, target_language=target, source_language=source, model=model, priority=priority
        )
        return await self._call(self._inference.Score, request, timeout, wire.score)

    async def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """As ``Client.models``."""
        method = self._models.ListModels
        return await self._call(method, models_pb2.ListModelsRequest(), timeout, models_wire.models)

    async def model(self, name: str | None = None, *, timeout: float | None = None) -> ModelDetails:
        """As ``Client.model``."""
        method = self._models.GetModel
        return await self._call(method, models_wire.get_model_request(name), timeout, models_wire.model_details)

    def _open_many(self, requests: AsyncIterator[inference_pb2.TranslateManyRequest]) -> Any:
        return self._inference.TranslateMany(requests, metadata=self._connection.metadata)
