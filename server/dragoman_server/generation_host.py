"""A model that continues texts, as it is being served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.decoding_host import DecodingHost
from dragoman_server.first_answers import FirstAnswer

_OPENING = "It was"
_FIRST_TOKENS = 12


@dataclass(frozen=True, kw_only=True)
class GenerationHost(DecodingHost):
    """A loaded decoder."""

    @property
    def window(self) -> int:
        """Tokens of prompt and continuation together, beginning-of-text apart: as the last one, that takes no room.

        What the decoder reads is begin-of-text and all tokens but the last, which nothing follows.
        """
        return self.bundle.limits.target_tokens

    def prompt_ids(self, text_ids: Sequence[int]) -> list[int]:
        """What the decoder is given: beginning-of-text, the text."""
        return [self.bundle.special_ids.bos, *text_ids]

    def first_answers(self) -> list[FirstAnswer]:
        """A few tokens that follow two words of our own."""
        ids = self.prompt_ids(self.codec.encode(_OPENING)[: self.window - 1])
        new_tokens = min(_FIRST_TOKENS, self.window - len(ids) + 1)
        return [self._first_answer("generates", _OPENING, ids, new_tokens)]
