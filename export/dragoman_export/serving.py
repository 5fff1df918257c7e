"""The serving engine, run in this process: what is measured is decoded by the runtime that serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tokenizers import Tokenizer

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.engine import DecodingEngine, Engine
from dragoman_server.errors import ServerError
from dragoman_server.machine import usable_cores
from dragoman_server.request import Outcome, Request
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.tokenization import TextCodec

Advance = Callable[[int], None]
"""Called with a number of sentences that are done."""

UNBOUNDED = 1 << 40
"""For queues: nothing is ever refused."""
_SECONDS_WITHOUT_ANSWER = 300.0


class ServingError(Exception):
    """The engine failed on a sentence."""


class ServedEngine:
    """An engine while it is in use; a context manager."""

    def __init__(self, engine: DecodingEngine, provider: str) -> None:
        self._engine = engine
        self.provider = provider

    def __enter__(self) -> Self:
        self._engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.stop(0.0)

    def answers(
        self, asked: Sequence[tuple[Sequence[int], DecodingOptions]], advance: Advance = lambda count: None
    ) -> list[Answer]:
        """The best answer to each source; ServingError where the engine fails."""
        outcomes: list[Outcome | None] = [None] * len(asked)
        answered = threading.Semaphore(0)

        def replying(index: int) -> Callable[[Outcome], None]:
            def reply(outcome: Outcome) -> None:
                outcomes[index] = outcome
                answered.release()

            return reply

        # Like lengths side by side: what joins a lane together is then encoded together.
        for index in sorted(range(len(asked)), key=lambda i: -len(asked[i][0])):
            self._engine.submit(Request(*asked[index], replying(index)))
        for _ in asked:
            if not answered.acquire(timeout=_SECONDS_WITHOUT_ANSWER):
                raise ServingError(f"no sentence was finished in {_SECONDS_WITHOUT_ANSWER:.0f} s")
            advance(1)
        return [_best(outcome) for outcome in outcomes]


class ServedGraphs(ServedEngine):
    """A lane for every usable core over one pair of graphs.

    ``manifest`` gives dimensions, limits and special ids.
    """

    def __init__(
        self, encoder: Path, decoder: Path, manifest: Bundle, *, lanes: int | None = None, max_rows: int = 64
    ) -> None:
        runtimes = [
            OnnxRuntime(encoder, decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows)
            for _ in range(lanes or usable_cores())
        ]
        engine = Engine(
            runtimes,
            bos=manifest.special_ids.bos,
            eos=manifest.special_ids.eos,
            max_waiting=UNBOUNDED,
            max_waiting_tokens=UNBOUNDED,
        )
        super().__init__(engine, runtimes[0].provider)

    def translate(
        self, sources: Sequence[Sequence[int]], *, max_length: int, advance: Advance = lambda count: None
    ) -> list[list[int]]:
        """Greedy target ids of every source, end-of-sentence left out; ServingError where the engine fails."""
        options = DecodingOptions(max_length=max_length)
        return [answer.token_ids for answer in self.answers([(source, options) for source in sources], advance)]


def _best(outcome: Outcome | None) -> Answer:
    assert outcome is not None
    if isinstance(outcome, ServerError):
        raise ServingError(str(outcome)) from outcome
    return outcome.best


class SourceReader:
    """Texts to encoder inputs and target ids to texts, as the server does it."""

    def __init__(self, tokenizer: Tokenizer, manifest: Bundle) -> None:
        tags = {language.code: language.tag_id for language in manifest.languages}
        self._codec = TextCodec(tokenizer, tags=tags, eos=manifest.special_ids.eos)
        self._longest = manifest.limits.source_tokens
        self.shortened = 0
        """Sentences so far that were cut to the longest source; the server would have refused them."""

    def encode(self, text: str, target: str) -> list[int]:
        """Language tag, ids, end-of-sentence. KeyError for a language that the model does not have."""
        ids = self._codec.encode_source(text, target)
        if len(ids) > self._longest:
            self.shortened += 1
            ids = [*ids[: self._longest - 1], ids[-1]]
        return ids

    def encode_all(self, texts: Sequence[str], target: str) -> list[list[int]]:
        """``encode`` for each text."""
        return [self.encode(text, target) for text in texts]

    def decode(self, targets: Sequence[Sequence[int]]) -> list[str]:
        """The texts of target ids."""
        return [self._codec.decode(ids) for ids in targets]
