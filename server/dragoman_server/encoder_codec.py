"""Texts to what an encoder reads, with the places that its answers refer to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, pre_tokenizers

from dragoman_server.pass_runtime import EncoderInput

# Lanes are the parallelism: a pool of threads for a few short texts waits for cores that the lanes hold.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Span = tuple[int, int]
"""Begin and end, in code points."""

MASK = "[MASK]"
"""How a text says that something is hidden."""
_MASK = re.compile(re.escape(MASK))
# The words that taggers are trained on: runs of letters and digits, or of other signs.
_WORDS = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)


@dataclass(frozen=True)
class Words:
    """A text as the words of it."""

    spans: Sequence[Span]
    ids: Sequence[int]
    """Of all words one after the other, without special tokens."""
    first: Sequence[int | None]
    """For each word which of the ids is its first; None for a word that the vocabulary reads nothing of."""


@dataclass(frozen=True)
class Masked:
    """A text with something hidden."""

    spans: Sequence[Span]
    """Of the masks."""
    ids: Sequence[int]
    """Without special tokens but the masks."""
    positions: Sequence[int]
    """Of the masks among the ids."""
    spaced: Sequence[bool]
    """Whether a mask follows white space, or nothing."""


class EncoderCodec:
    """A bundle's tokenizer with the special tokens of an encoder. Thread-safe.

    ``tokenizer`` is changed to read special tokens in a text as plain text; ``mask`` is None where the model fills no
    masks.
    """

    def __init__(self, tokenizer: Tokenizer, *, cls: int, sep: int, mask: int | None) -> None:
        # A user who writes "[SEP]" means those characters.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._cls, self._sep, self._mask = cls, sep, mask
        self.special = frozenset(tokenizer.get_added_tokens_decoder())
        """Ids that stand for no text."""
        self._pieces = {token_id: piece for piece, token_id in tokenizer.get_vocab().items()}

    @property
    def longest_token(self) -> int:
        """Characters that the longest entry of the vocabulary can stand for."""
        # A byte-level piece has one letter for each byte, so at least one for each character.
        return max(len(piece) for token_id, piece in self._pieces.items() if token_id not in self.special)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens. Other threads run meanwhile."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def words(self, text: str) -> Words:
        """The text's words: runs of letters and digits or of other signs, as ``\\w+|[^\\w\\s]+`` finds them."""
        found: list[tuple[str, Span]] = _WORDS.pre_tokenize_str(text)
        encoding = self._tokenizer.encode([word for word, _ in found], is_pretokenized=True, add_special_tokens=False)
        first: list[int | None] = [None] * len(found)
        for number, word in reversed(list(enumerate(encoding.word_ids))):
            if word is not None:
                first[word] = number
        return Words([span for _, span in found], encoding.ids, first)

    def masked(self, text: str) -> Masked:
        """The text's ids, with a mask's wherever it says ``[MASK]``."""
        assert self._mask is not None, "the model fills no masks"
        spans = [found.span() for found in _MASK.finditer(text)]
        ids: list[int] = []
        positions: list[int] = []
        for part in self.encode_batch(text.split(MASK)):
            ids += part
            positions.append(len(ids))
            ids.append(self._mask)  # one too many after the last part
        spaced = [not begin or text[begin - 1].isspace() for begin, _ in spans]
        return Masked(spans, ids[:-1], positions[:-1], spaced)

    def reads_in_place(self, token_id: int, masked: Masked, number: int) -> str:
        """What the token reads as in place of a mask of the text."""
        position = masked.positions[number]
        before = [] if not position or masked.ids[position - 1] == self._mask else [masked.ids[position - 1]]
        left, both = self.decode(before), self.decode([*before, token_id])
        # A token of a few bytes of a character may change what stands before it: then it is read by itself.
        text = both[len(left) :] if before and both.startswith(left) else self.decode([token_id])
        return text.removeprefix(" ") if masked.spaced[number] else text

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def offsets(self, text: str) -> list[Span]:
        """Where each of the ids that ``encode_batch`` gives of the text stands in it."""
        offsets: list[Span] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's entries."""
        return [self.token(token_id) for token_id in ids]

    def token(self, token_id: int) -> str:
        """The vocabulary's entry."""
        return self._pieces.get(token_id, "")

    def single(self, ids: Sequence[int]) -> EncoderInput:
        """One text: [CLS] text [SEP]."""
        return EncoderInput([self._cls, *ids, self._sep])

    def with_masks(self, masked: Masked) -> EncoderInput:
        """One text, and the places to be filled."""
        return EncoderInput(self.single(masked.ids).ids, mask_positions=[1 + place for place in masked.positions])

    def pair(self, one: Sequence[int], two: Sequence[int]) -> EncoderInput:
        """Two texts: [CLS] one [SEP] two [SEP], of two segments."""
        ids = [self._cls, *one, self._sep, *two, self._sep]
        begin = len(one) + 2
        return EncoderInput(ids, [0] * begin + [1] * (len(ids) - begin))
