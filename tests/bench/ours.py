"""Our side: the engine as the server sets it up, driven with ids in this process."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dragoman_server.building import build_host
from dragoman_server.bundle import load_bundle
from dragoman_server.compiled_kernels import Kernels
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.engine import Engine
from dragoman_server.errors import ServerError
from dragoman_server.garbage import collect_seldom
from dragoman_server.heap import bound_heap, trim
from dragoman_server.request import Outcome, Request
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.translation_host import TranslationHost

_SECONDS = 600.0


@dataclass(frozen=True)
class OurSettings:
    """How the engine is set up."""

    lanes: int
    max_rows: int = 128
    max_waiting: int = 1_000_000
    max_waiting_tokens: int = 100_000_000
    ageing: float = 1.0
    kernels: Kernels = "auto"
    lane_threads: int = 1


@dataclass(frozen=True)
class Decoded:
    """What one run gave, and how long it took."""

    outputs: list[list[int]]
    seconds: float
    cpu_seconds: float
    """Of this process."""

    @property
    def tokens(self) -> int:
        """Target tokens, end-of-sentence left out."""
        return sum(map(len, self.outputs))

    @property
    def tokens_per_second(self) -> float:
        """Of all sentences together."""
        return self.tokens / self.seconds


class Ours:
    """A running engine; a context manager."""

    def __init__(self, repository: Path, name: str, settings: OurSettings) -> None:
        collect_seldom()
        bound_heap()
        self.settings = settings
        newest = max((repository / name).iterdir(), key=lambda version: int(version.name))
        host = build_host(int(newest.name), load_bundle(newest, "int8"), settings)
        trim()  # as a server does when its models are loaded
        assert isinstance(host, TranslationHost)
        self.host = host
        self.host.engine.start()
        self._longest = self.host.bundle.limits.target_tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.host.engine.stop(0.0)

    def facts(self) -> dict[str, Any]:
        """For the JSON."""
        return {**asdict(self.settings), "precision": self.host.precision}

    def runtimes(self) -> list[OnnxRuntime]:
        """Those of the lanes: the one place that looks into the engine. Nobody else may use them meanwhile."""
        engine = self.host.engine
        assert isinstance(engine, Engine)
        runtimes = [lane.runtime for lane in engine._lanes]
        return [runtime for runtime in runtimes if isinstance(runtime, OnnxRuntime)]

    def decode(self, sources: Sequence[Sequence[int]], *, beam: int, in_flight: int | None = None) -> Decoded:
        """Translate all; at most ``in_flight`` are with the engine at one time, None: all at once."""
        options = self._options(beam)
        outcomes: list[list[int] | ServerError] = [[]] * len(sources)
        done = threading.Event()
        answered = itertools.count(1)
        following = itertools.count()

        def submit() -> None:
            index = next(following)
            if index < len(sources):
                self.host.engine.submit(Request(sources[index], options, replying(index)))

        def replying(index: int) -> Callable[[Outcome], None]:
            def reply(outcome: Outcome) -> None:
                # As a caller does who wants no more than the text: what else there is to an answer goes at once.
                outcomes[index] = outcome if isinstance(outcome, ServerError) else list(outcome.best.token_ids)
                if next(answered) == len(sources):
                    done.set()
                elif in_flight is not None:
                    submit()

            return reply

        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(len(sources) if in_flight is None else min(in_flight, len(sources))):
            submit()
        if not done.wait(_SECONDS):
            raise TimeoutError(f"the engine did not finish in {_SECONDS:.0f} s")
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        for outcome in outcomes:
            if isinstance(outcome, ServerError):
                raise outcome
        return Decoded([ids for ids in outcomes if not isinstance(ids, ServerError)], seconds, cpu)

    def latencies(self, sources: Sequence[Sequence[int]], *, beam: int) -> list[float]:
        """Seconds from submitting a sentence to its answer, one after the other."""
        options = self._options(beam)
        found = []
        for source in sources:
            answered = threading.Event()
            outcomes: list[Outcome] = []

            def reply(
                outcome: Outcome, outcomes: list[Outcome] = outcomes, answered: threading.Event = answered
            ) -> None:
                outcomes.append(outcome)
                answered.set()

            began = time.perf_counter()
            self.host.engine.submit(Request(source, options, reply))
            if not answered.wait(_SECONDS):
                raise TimeoutError(f"no answer in {_SECONDS:.0f} s")
            found.append(time.perf_counter() - began)
            if isinstance(outcomes[0], ServerError):
                raise outcomes[0]
        return found

    def _options(self, beam: int) -> DecodingOptions:
        return DecodingOptions(max_length=self._longest, beam_size=beam)
