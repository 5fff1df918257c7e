"""Labels, tags, masks and vectors of a text: ``classify``, ``tag``, ``fill_mask`` and ``embed`` of both clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dragoman import understanding_wire as wire
from dragoman.async_caller import AsyncCaller
from dragoman.caller import Caller
from dragoman.understanding_values import Classification, Embeddings, FilledMasks, Tagging

PoolingName = Literal["mean", "cls"]
"""What of a text becomes its vector: the mean over its tokens, or the state of [CLS]."""


class Understanding(Caller):
    """The blocking client's part for models that understand.

    ``model`` None stands for the server's default if it does what is asked for, else for its first that does.
    """

    def classify(
        self,
        text: str,
        *,
        text_pair: str | None = None,
        model: str | None = None,
        top_k: int | None = None,
        min_probability: float | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """The ``top_k`` likeliest labels of a text (5 by default, 1 to 1000), or of a pair of texts."""
        request = wire.classify_request(
            text,
            text_pair=text_pair,
            model=model,
            top_k=top_k,
            min_probability=min_probability,
            priority=priority,
        )
        return self._call(self._inference.Classify, request, timeout, wire.classification)

    def tag(
        self, text: str, *, model: str | None = None, priority: int | None = None, timeout: float | None = None
    ) -> Tagging:
        """The words or spans of a text, labelled."""
        request = wire.tag_request(text, model=model, priority=priority)
        return self._call(self._inference.Tag, request, timeout, wire.tagging)

    def fill_mask(
        self,
        text: str,
        *,
        model: str | None = None,
        top_k: int | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> FilledMasks:
        """What may stand where the text says [MASK]: ``top_k`` candidates for each (5 by default, 1 to 1000)."""
        request = wire.fill_mask_request(text, model=model, top_k=top_k, priority=priority)
        return self._call(self._inference.FillMask, request, timeout, wire.filled_masks)

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        pooling: PoolingName | None = None,
        normalise: bool | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """Up to 256 texts as vectors of length 1 (``normalise=False``: as the model has them)."""
        request = wire.embed_request(texts, model=model, pooling=pooling, normalise=normalise, priority=priority)
        return self._call(self._inference.Embed, request, timeout, wire.embeddings)


class AsyncUnderstanding(AsyncCaller):
    """The asyncio client's part for models that understand; see ``Understanding``."""

    async def classify(
        self,
        text: str,
        *,
        text_pair: str | None = None,
        model: str | None = None,
        top_k: int | None = None,
        min_probability: float | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """As ``Client.classify``."""
        request = wire.classify_request(
            text,
            text_pair=text_pair,
            model=model,
            top_k=top_k,
            min_probability=min_probability,
            priority=priority,
        )
        return await self._call(self._inference.Classify, request, timeout, wire.classification)

    async def tag(
        self, text: str, *, model: str | None = None, priority: int | None = None, timeout: float | None = None
    ) -> Tagging:
        """As ``Client.tag``."""
        request = wire.tag_request(text, model=model, priority=priority)
        return await self._call(self._inference.Tag, request, timeout, wire.tagging)

    async def fill_mask(
        self,
        text: str,
        *,
        model: str | None = None,
        top_k: int | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> FilledMasks:
        """As ``Client.fill_mask``."""
        request = wire.fill_mask_request(text, model=model, top_k=top_k, priority=priority)
        return await self._call(self._inference.FillMask, request, timeout, wire.filled_masks)

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        pooling: PoolingName | None = None,
        normalise: bool | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """As ``Client.embed``."""
        request = wire.embed_request(texts, model=model, pooling=pooling, normalise=normalise, priority=priority)
        return await self._call(self._inference.Embed, request, timeout, wire.embeddings)
