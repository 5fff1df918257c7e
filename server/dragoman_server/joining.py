"""How requests come to have rows in a lane: sources are encoded together, prompts are prefilled chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dragoman_server.decoding.batch import Batch
from dragoman_server.pace import Pace
from dragoman_server.request import Request
from dragoman_server.runtime import PromptRuntime, Runtime, StepRuntime


class Turn(NamedTuple):
    """What has become of requests between two steps."""

    joined: Sequence[Request]
    """They have their rows."""
    failed: Sequence[tuple[Sequence[Request], Exception]]
    """They never will; where one has a row already, that is to be given back."""


class Joining(Protocol):
    """Takes requests into a lane. The caller has counted their rows."""

    @property
    def runtime(self) -> StepRuntime:
        """The lane's."""

    @property
    def source_capacity(self) -> int:
        """Longest source that hypotheses attend to; 0: there are no sources."""

    @property
    def under_way(self) -> bool:
        """Whether some have not got their rows yet: meanwhile nobody else should join."""

    def size(self, request: Request) -> int:
        """What the steps of requests are expected to grow with."""

    def turn(self, joiners: Sequence[Request], batch: Batch, pace: Pace) -> Turn:
        """Go on between two steps, with these as well."""

    def forget(self, gone: Collection[Request]) -> None:
        """These do not join any more; some may be elsewhere."""

    def clear(self) -> None:
        """Nobody joins any more."""


class EncoderJoining:
    """All that join are encoded at once, and ``bos`` is fed first. ``clock`` tells the seconds."""

    under_way = False

    def __init__(self, runtime: Runtime, *, bos: int, clock: Callable[[], float]) -> None:
        self.runtime = runtime
        self.source_capacity = runtime.source_capacity
        self._bos = bos
        self._clock = clock

    def size(self, request: Request) -> int:
        """As ``Joining`` says: a translation grows with its source."""
        return len(request.source_ids)

    def turn(self, joiners: Sequence[Request], batch: Batch, pace: Pace) -> Turn:
        """As ``Joining`` says."""
        began = self._clock()
        rows = [batch.join(request, self._bos) for request in joiners]
        try:
            # The rows that run already are not touched.
            self.runtime.encode(rows, [request.source_ids for request in joiners])
        except Exception as error:
            return Turn((), [(joiners, error)])
        seconds = self._clock() - began
        pace.encoded(sum(len(request.source_ids) for request in joiners), seconds)
        for request in joiners:
            request.joined, request.encode_ms = began, seconds * 1e3
        return Turn(joiners, ())

    def forget(self, gone: Collection[Request]) -> None:
        """As ``Joining`` says."""

    def clear(self) -> None:
        """As ``Joining`` says."""


@dataclass
class _Prompt:
    request: Request
    prefilled: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Tokens to prefill: the last one is fed by a step."""
        return len(self.request.source_ids) - 1 - self.prefilled


class PromptJoining:
    """One prompt after the other is prefilled by itself, at most a chunk of tokens between two steps.

    Where a prompt is cut into chunks depends on nothing but the prompt: its row holds the same bits in any company.
    ``clock`` tells the seconds.
    """

    source_capacity = 0

    def __init__(self, runtime: PromptRuntime, *, clock: Callable[[], float]) -> None:
        self.runtime = runtime
        self._clock = clock
        self._prompts: deque[_Prompt] = deque()

    @property
    def under_way(self) -> bool:
        """As ``Joining`` says."""
        return bool(self._prompts)

    def size(self, request: Request) -> int:
        """As ``Joining`` says: how far a text goes on, nothing tells but how far it may."""
        return request.options.max_length

    def turn(self, joiners: Sequence[Request], batch: Batch, pace: Pace) -> Turn:
        """As ``Joining`` says: a chunk of the first prompt, and whole prompts for as long as no more tokens come in."""
        self._prompts += map(_Prompt, joiners)
        joined: list[Request] = []
        failed: list[tuple[Sequence[Request], Exception]] = []
        tokens, most = 0, self.runtime.prefill_chunk
        while self._prompts:
            prompt = self._prompts[0]
            size = min(prompt.left, most)
            if tokens + size > most:
                break
            tokens += size
            try:
                if not self._advance(prompt, size, batch, pace):
                    break
                joined.append(prompt.request)
            except Exception as error:
                failed.append(([prompt.request], error))
            self._prompts.popleft()
        return Turn(joined, failed)

    def forget(self, gone: Collection[Request]) -> None:
        """As ``Joining`` says."""
        self._prompts = deque(prompt for prompt in self._prompts if prompt.request not in gone)

    def clear(self) -> None:
        """As ``Joining`` says."""
        self._prompts.clear()

    def _advance(self, prompt: _Prompt, size: int, batch: Batch, pace: Pace) -> bool:
        """Prefill so many tokens; returns whether that was all, and the request has its row."""
        request, begin = prompt.request, prompt.prefilled
        began = self._clock()
        if not begin:
            request.joined = began
        if size:
            self.runtime.prefill(request.source_ids[begin : begin + size], begin)
            prompt.prefilled += size
        whole = not prompt.left
        if whole:
            last = len(request.source_ids) - 1
            self.runtime.admit(batch.join(request, request.source_ids[last], last), last)
        seconds = self._clock() - began
        prompt.seconds += seconds
        pace.encoding_took(seconds)
        if whole:
            request.encode_ms = prompt.seconds * 1e3
            pace.encoded_in_parts(len(request.source_ids), prompt.seconds)
        return whole
