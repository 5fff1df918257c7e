"""One model as it is being served: its bundle, codec and running engine, and what asks them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dragoman_protos.v1 import bundle_pb2, inference_pb2, models_pb2
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import ServerError
from dragoman_server.request import Outcome, Request

_FIRST_TRANSLATION_SECONDS = 60.0
# Short sentences of our own, one per language, that the first translations are made of.
_GREETINGS = {"en": "Where is the station?", "de": "Wo ist der Bahnhof?"}


class Codec(Protocol):
    """Text to ids and back. Threads may share it; what a text says is never taken for a special token."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without language tag and end-of-sentence."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The same for several texts at once."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Begin and end, in code points, of each id of the text."""

    def spellings(self, phrase: str) -> list[list[int]]:
        """Ids of the phrase at the start of a word and inside one; each way once."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        """The same, with a word in place of the id at each position that ``words`` names."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's entry for each id."""


class Engine(Protocol):
    """What decodes requests; see ``engine.Engine``."""

    def start(self) -> None:
        """Warm up and take work."""

    def submit(self, request: Request) -> None:
        """Queue the request, from any thread, without blocking; raises Overloaded or Unavailable."""

    def stop(self, grace: float) -> None:
        """Finish work for ``grace`` seconds, then end the rest with Unavailable."""


@dataclass(frozen=True)
class FirstTranslation:
    """What the warm-up request gave."""

    source_language: str
    target_language: str
    source: str
    text: str
    seconds: float


@dataclass(frozen=True)
class ModelHost:
    """A loaded model and how it is served."""

    bundle: bundle_pb2.Bundle
    version: str
    codec: Codec
    engine: Engine
    precision: str
    provider: str
    lanes: int
    max_rows: int
    default_options: inference_pb2.DecodingOptions
    """The bundle's, checked: they hold where a request does not say otherwise."""
    longest_text: int
    """Characters: a longer text is refused before it is tokenised, since its tokens could not fit."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.name

    @property
    def unknown_id(self) -> int | None:
        """The unknown token's id, where the model has one."""
        special = self.bundle.special_ids
        return special.unk if special.HasField("unk") else None

    @property
    def default_max_length(self) -> int:
        """Target tokens, for a request that does not say."""
        given = self.default_options.HasField("max_length")
        return self.default_options.max_length if given else self.bundle.limits.target_tokens

    def language(self, code: str) -> bundle_pb2.Language | None:
        """The model's language of that BCP 47 tag, upper or lower case; None when it has none."""
        wanted = code.casefold()
        return next((language for language in self.bundle.languages if language.code.casefold() == wanted), None)

    def source_ids(self, text_ids: Sequence[int], target: bundle_pb2.Language) -> list[int]:
        """What the encoder is given: the target language's tag, the text, end-of-sentence."""
        return [target.tag_id, *text_ids, self.bundle.special_ids.eos]

    def summary(self, *, default: bool) -> models_pb2.Model:
        """The model in one message."""
        return models_pb2.Model(
            name=self.name,
            version=self.version,
            family=self.bundle.family,
            tasks=self.bundle.tasks,
            languages=[language.code for language in self.bundle.languages],
            precision=self.precision,
            provider=self.provider,
            lanes=self.lanes,
            max_rows=self.max_rows,
            default=default,
        )

    def first_translations(self) -> list[FirstTranslation]:
        """Translate one short sentence in each direction of the languages that we have a sentence of.

        Blocks; raises a ServerError when the engine fails, TimeoutError when it does not answer within a minute.
        """
        return [
            self._translate(_GREETINGS[source.code], source, target)
            for source in self.bundle.languages
            for target in self.bundle.languages
            if source.code != target.code and source.code in _GREETINGS
        ]

    def _translate(self, text: str, source: bundle_pb2.Language, target: bundle_pb2.Language) -> FirstTranslation:
        outcomes: list[Outcome] = []
        answered = threading.Event()

        def reply(outcome: Outcome) -> None:
            outcomes.append(outcome)
            answered.set()

        started = time.monotonic()
        ids = self.source_ids(self.codec.encode(text), target)
        options = DecodingOptions(max_length=self.default_max_length)
        request = Request(ids, options, reply, deadline=started + _FIRST_TRANSLATION_SECONDS)
        self.engine.submit(request)
        if not answered.wait(_FIRST_TRANSLATION_SECONDS):
            request.cancel()
            raise TimeoutError(f"{self.name}: no answer to the first request in {_FIRST_TRANSLATION_SECONDS:.0f} s")
        outcome = outcomes[0]
        if isinstance(outcome, ServerError):
            raise outcome
        translated = self.codec.decode(outcome.best.token_ids)
        return FirstTranslation(source.code, target.code, text, translated, seconds=time.monotonic() - started)
