"""Text to ids and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer


class TextCodec:
    """A bundle's tokenizer with its language tags. Thread-safe.

    ``tags`` maps a language code to the id of its tag; ``tokenizer`` is changed to read special tokens in a text as
    plain text.
    """

    def __init__(self, tokenizer: Tokenizer, *, tags: Mapping[str, int], eos: int) -> None:
        # A user who writes "</s>" or "<2de>" means those characters.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._tags = dict(tags)
        self._eos = eos

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that can be asked for, in the bundle's order."""
        return list(self._tags)

    @property
    def longest_token(self) -> int:
        """Characters that the longest entry of the vocabulary can stand for."""
        # A byte-level piece has one letter for each byte, so at least one for each character.
        special = self._tokenizer.get_added_tokens_decoder().keys()
        return max(len(piece) for piece, token_id in self._tokenizer.get_vocab().items() if token_id not in special)

    def encode(self, text: str) -> list[int]:
        """The text's ids alone."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def spellings(self, phrase: str) -> list[list[int]]:
        """Ids of the phrase at the start of a text, after a space, and as written in the middle of a text."""
        # A line break is never part of the piece that follows it, and no space is put in after it.
        broken, line_break = self.encode(f"\n{phrase}"), self.encode("\n")
        inside = [broken[len(line_break) :]] if broken[: len(line_break)] == line_break else []
        found = [ids for ids in (self.encode(phrase), self.encode(f" {phrase}"), *inside) if ids]
        return [list(ids) for ids in dict.fromkeys(map(tuple, found))]

    def encode_source(self, text: str, target_language: str) -> list[int]:
        """The encoder's input: language tag, the text's ids, end-of-sentence. KeyError for an unknown language."""
        return [self._tags[target_language], *self.encode(text), self._eos]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target ids; special tokens are left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's piece for each id, as the tokenizer writes it."""
        pieces = [self._tokenizer.id_to_token(token_id) for token_id in ids]
        return ["" if piece is None else piece for piece in pieces]
