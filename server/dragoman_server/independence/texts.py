"""The sentences that are asked: from a file, or our own, and as the encoder's input."""

from __future__ import annotations

import gzip
import random
import zlib
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.independence.sentences import Sentence
from dragoman_server.tokenization import TextCodec

_SENTENCES_OF_A_PROMPT = (0, 1, 1, 1, 2, 4, 12)
"""One is drawn: no text at all, one sentence as a rule, and now and then more than a chunk of tokens."""

Sources = list[tuple[int, ...]]
"""Language tag first, end-of-sentence last; of a prompt, begin-of-text first."""


def read_sentences(path: Path, column: int, count: int, *, seed: int) -> list[Sentence]:
    """At most ``count`` different sentences of a file, drawn at random.

    One a line; of a file called .tsv (or .tsv.gz) the ``column``-th, counted from 1. Raises InvalidArgument for a file
    that cannot be read or holds nothing.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidArgument([Violation("data", str(path), f"a file of UTF-8 lines: {error}")]) from None
    lines = text.splitlines()
    if path.name.removesuffix(".gz").endswith(".tsv"):
        fields = [line.split("\t") for line in lines if line.strip()]
        narrow = min(map(len, fields), default=column)
        if narrow < column:
            raise InvalidArgument([Violation("column", str(column), f"1 to {narrow}, the columns of {path}")])
        lines = [line[column - 1] for line in fields]
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise InvalidArgument([Violation("data", str(path), "at least one line of text")])
    return [Sentence(line) for line in random.Random(seed).sample(found, min(count, len(found)))]


def encode_prompts(sentences: list[Sentence], codec: TextCodec, manifest: Bundle, *, seed: int) -> Sources:
    """Each sentence as a prompt, begun by bos: some have no text, and some go on with the next sentences.

    At least an eighth of the window is left for what is new.
    """
    chance, bos = random.Random(seed), manifest.special_ids.bos
    window = manifest.limits.target_tokens
    ids = codec.encode_batch([sentence.text for sentence in sentences])
    prompts = []
    for number in range(len(ids)):
        text = [token for each in ids[number : number + chance.choice(_SENTENCES_OF_A_PROMPT)] for token in each]
        prompts.append((bos, *text)[: max(1, window - max(1, window // 8))])
    return prompts


def encode(sentences: list[Sentence], codec: TextCodec, manifest: Bundle, *, target: str | None, seed: int) -> Sources:
    """Each sentence as the encoder's input, cut to the longest source; ``target`` None: another language, by chance.

    Raises InvalidArgument for a target that the model does not have.
    """
    codes = codec.languages
    if target is not None and target not in codes:
        raise InvalidArgument([Violation("target", target, f"one of {', '.join(codes)}")])
    chance = random.Random(seed)
    longest = manifest.limits.source_tokens
    sources = []
    for sentence in sentences:
        others = [code for code in codes if code != sentence.language] or codes
        ids = codec.encode_source(sentence.text, target or chance.choice(others))
        sources.append((*ids[: longest - 1], ids[-1]) if len(ids) > longest else tuple(ids))
    return sources
