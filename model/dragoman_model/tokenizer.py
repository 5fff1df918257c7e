"""Byte-level BPE: a joint one for all languages, with a tag per target language, and one for running text.

Byte-level (Radford et al. 2019): any text comes back as it went in, and nothing is ever unknown. BPE after Sennrich et
al. 2016. The tag in front of the source says which language is asked for (Johnson et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<s>", "</s>"


def language_tag(code: str) -> str:
    """The special token that asks for the language ``code`` as target, such as "<2de>"."""
    return f"<2{code}>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, languages: Sequence[str]) -> Tokenizer:
    """Learn a vocabulary of at most ``vocabulary`` pieces; ids 0 to 3 are pad, unk, bos and eos, then the tags."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    special = [PAD, UNK, BOS, EOS, *(language_tag(code) for code in languages)]
    if len(set(special)) < len(special):
        raise ValueError(f"languages = {list(languages)}: each may be named once")
    return _learn(tokenizer, texts, vocabulary, special)


def train_text_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn at most ``vocabulary`` pieces of running text, white space included; ids 0 to 3 are pad, unk, bos and eos.

    Unlike a sentence, a text gets no space in front: what is decoded is what was encoded, to the character (in NFC).
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _learn(tokenizer, texts, vocabulary, [PAD, UNK, BOS, EOS])


def _learn(tokenizer: Tokenizer, texts: Iterable[str], vocabulary: int, special: list[str]) -> Tokenizer:
    tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return protect(tokenizer)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json."""
    return protect(Tokenizer.from_file(str(path)))


def protect(tokenizer: Tokenizer) -> Tokenizer:
    """Make a literal "</s>" in a text plain text, so that no text can smuggle in a special token."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; ValueError if the vocabulary lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the vocabulary has no token {token}")
    return found


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], batch: int = 8192) -> Iterator[list[int]]:
    """Ids of each text, without special tokens."""
    for begin in range(0, len(texts), batch):
        for encoding in tokenizer.encode_batch(texts[begin : begin + batch], add_special_tokens=False):
            yield encoding.ids


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str], *, ends: bool) -> list[npt.NDArray[np.int64]]:
    """Each text's ids, with eos at the end if ``ends``; bos is left to whoever feeds them."""
    last = [token_id(tokenizer, EOS)] if ends else []
    return [np.array([*ids, *last], dtype=np.int64) for ids in encode_texts(tokenizer, texts)]
