"""The vocabulary of an encoder-only model: byte-level BPE inside words, with BERT's special tokens at ids 0 to 4.

Words are runs of letters and digits, or of other signs; white space only separates them (as in BERT's own tokenizer).
Every word begins with the piece of a space, so a text and the list of its words have the same pieces, and no piece
ever belongs to two words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dragoman_model.tokenizer import protect

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIALS = (PAD, UNK, CLS, SEP, MASK)
WORD = r"\w+|[^\w\s]+"


def train_encoder_tokenizer(texts: Iterable[str], vocabulary: int, *, lowercase: bool = False) -> Tokenizer:
    """Learn a vocabulary of at most ``vocabulary`` pieces; ``lowercase`` makes upper case the same as lower case.

    Offsets of an encoding refer to the text as it was given, whatever was normalised.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    set_case(tokenizer, lowercase=lowercase)
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return protect(tokenizer)


def set_case(tokenizer: Tokenizer, *, lowercase: bool) -> None:
    """Whether upper case is read as lower case; a vocabulary that was learned with both can do either."""
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)


@dataclass(frozen=True)
class EncodedWords:
    """Pieces of a list of words, and for each word the number of its first piece: None if it has no piece."""

    ids: list[int]
    first: list[int | None]


def encode_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[EncodedWords]:
    """Each sentence, a list of words, as pieces without special tokens.

    A word of control characters alone may have no piece. Words are split further where a text would be ("n't" is two
    words of ``WORD``): the tag of the whole still stands at its first piece.
    """
    # The list comes back as words numbered as they were given: alignment is the tokenizer's own.
    encodings = tokenizer.encode_batch(
        [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
    )
    aligned = []
    for words, encoding in zip(sentences, encodings, strict=True):
        first: list[int | None] = [None] * len(words)
        for number, word in reversed(list(enumerate(encoding.word_ids))):
            assert word is not None
            first[word] = number
        aligned.append(EncodedWords(encoding.ids, first))
    return aligned
