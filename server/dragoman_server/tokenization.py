"""Text to ids and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

# Lanes are the parallelism: a pool of threads for a few short texts waits for cores that the lanes hold.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_SHORT = 1000
"""Characters that are tokenised in a fraction of a millisecond."""


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
        self._special = frozenset(tokenizer.get_added_tokens_decoder())
        self._pieces = _Pieces((token_id, piece) for piece, token_id in tokenizer.get_vocab().items())

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that can be asked for, in the bundle's order."""
        return list(self._tags)

    @property
    def longest_token(self) -> int:
        """Characters that the longest entry of the vocabulary can stand for."""
        # A byte-level piece has one letter for each byte, so at least one for each character.
        return max(len(piece) for token_id, piece in self._pieces.items() if token_id not in self._special)

    def encode(self, text: str) -> list[int]:
        """The text's ids alone."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. Other threads run meanwhile, unless it is a single short one."""
        if len(texts) == 1 and len(texts[0]) <= _SHORT:
            # A batch lets go of the interpreter's lock; to have it back from the lanes would take ten times as long.
            return [self._tokenizer.encode(texts[0], add_special_tokens=False).ids]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each of the text's ids stands in it: begin and end, in code points."""
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

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

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        """The same, but that the id at each position in ``words`` stands for that word."""
        pieces = [
            words.get(position, piece)
            for position, (token_id, piece) in enumerate(zip(ids, self.tokens(ids), strict=True))
            if position in words or token_id not in self._special
        ]
        decoder = self._tokenizer.decoder
        text: str = " ".join(pieces) if decoder is None else decoder.decode(pieces)
        return text

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's piece for each id, as the tokenizer writes it."""
        return list(map(self._pieces.__getitem__, ids))


class _Pieces(dict[int, str]):
    """By id; empty for an id that the vocabulary does not have."""

    def __missing__(self, token_id: int) -> str:
        return ""
