"""A model that translates, as it is being served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_protos.v1 import bundle_pb2
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.first_answers import FirstAnswer

# Short sentences of our own, one per language, that the first translations are made of.
_GREETINGS = {"en": "Where is the station?", "de": "Wo ist der Bahnhof?"}


@dataclass(frozen=True, kw_only=True)
class TranslationHost(DecodingHost):
    """A loaded encoder-decoder."""

    def language(self, code: str) -> bundle_pb2.Language | None:
        """The model's language of that BCP 47 tag, upper or lower case; None when it has none."""
        wanted = code.casefold()
        return next((language for language in self.bundle.languages if language.code.casefold() == wanted), None)

    def source_ids(self, text_ids: Sequence[int], target: bundle_pb2.Language) -> list[int]:
        """What the encoder is given: the target language's tag, the text, end-of-sentence."""
        return [target.tag_id, *text_ids, self.bundle.special_ids.eos]

    def first_answers(self) -> list[FirstAnswer]:
        """A short sentence in each direction of the languages that we have a sentence of."""
        return [
            self._first_answer(
                f"{source.code} -> {target.code}",
                _GREETINGS[source.code],
                self.source_ids(self.codec.encode(_GREETINGS[source.code]), target),
                self.default_max_length,
            )
            for source in self.bundle.languages
            for target in self.bundle.languages
            if source.code != target.code and source.code in _GREETINGS
        ]
