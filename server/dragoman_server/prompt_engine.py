"""The engine of a decoder-only model: prompts join chunk by chunk, and the rows that run step on in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dragoman_server.engine import DecodingEngine
from dragoman_server.joining import PromptJoining
from dragoman_server.lanes import AnyLane
from dragoman_server.request import Request
from dragoman_server.runtime import PromptRuntime


class PromptEngine(DecodingEngine):
    """Decodes what follows a prompt: a request's source, of one token at the least, whose first is begin-of-text.

    ``max_waiting_tokens`` counts the prompts' tokens. A lane takes whole prompts of one chunk together, or else one
    longer prompt and nobody else until that has its row.
    """

    def __init__(
        self,
        runtimes: Sequence[PromptRuntime],
        *,
        eos: int,
        max_waiting: int,
        max_waiting_tokens: int,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chunk = min(runtime.prefill_chunk for runtime in runtimes)
        super().__init__(
            [PromptJoining(runtime, clock=clock) for runtime in runtimes],
            eos=eos,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=chunk,
            ageing_seconds=ageing_seconds,
            clock=clock,
            chunk=chunk,
        )

    def _takes(self, lane: AnyLane[Request]) -> bool:
        return not self._lanes[lane.number].joining.under_way

    def _fault(self, request: Request) -> str | None:
        if not request.source_ids:
            return "prompt has 0 tokens: at least 1"
        tokens, most = len(request.source_ids) - 1 + request.options.max_length, self._target_capacity
        if tokens > most >= request.options.max_length:
            return f"prompt and max_length take {tokens} positions: 1 to {most}"
        if request.options.attends:
            return "attention to a source was asked for: there is none"
        return super()._fault(request)
