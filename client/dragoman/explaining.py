"""The attention behind an answer: ``explain`` of both clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dragoman import explaining_wire as wire
from dragoman.async_caller import AsyncCaller
from dragoman.caller import Caller
from dragoman.explaining_values import Explanation

AggregationName = Literal["none", "mean-heads", "mean", "rollout"]
"""What is made of layers and heads: nothing, the mean over each layer's heads, the mean over all, attention rollout."""


class Explaining(Caller):
    """The blocking client's part that explains."""

    def explain(
        self,
        text: str,
        *,
        translation: str | None = None,
        text_pair: str | None = None,
        target: str | None = None,
        source: str | None = None,
        model: str | None = None,
        max_new_tokens: int | None = None,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        aggregation: AggregationName | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Explanation:
        """What a model attends to, layer by layer and head by head.

        ``translation`` is what the text becomes (or, for a model that generates, how it goes on); None: what the model
        makes of it greedily, a generating one by ``max_new_tokens`` (16 by default). ``target`` and ``source`` are
        languages, for a model that translates; ``text_pair`` is for an encoder of pairs. ``layers`` and ``heads``
        choose some by their numbers, from 0; ``aggregation`` makes fewer numbers of all. An answer that would be too
        large for a message is InvalidArgument, and says what to choose.
        """
        request = wire.explain_request(
            text,
            translation=translation,
            text_pair=text_pair,
            target=target,
            source=source,
            model=model,
            max_new_tokens=max_new_tokens,
            layers=layers,
            heads=heads,
            aggregation=aggregation,
            priority=priority,
        )
        return self._call(self._inference.Explain, request, timeout, wire.explanation(request))


class AsyncExplaining(AsyncCaller):
    """The asyncio client's part that explains; see ``Explaining``."""

    async def explain(
        self,
        text: str,
        *,
        translation: str | None = None,
        text_pair: str | None = None,
        target: str | None = None,
        source: str | None = None,
        model: str | None = None,
        max_new_tokens: int | None = None,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        aggregation: AggregationName | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Explanation:
        """As ``Client.explain``."""
        request = wire.explain_request(
            text,
            translation=translation,
            text_pair=text_pair,
            target=target,
            source=source,
            model=model,
            max_new_tokens=max_new_tokens,
            layers=layers,
            heads=heads,
            aggregation=aggregation,
            priority=priority,
        )
        return await self._call(self._inference.Explain, request, timeout, wire.explanation(request))
