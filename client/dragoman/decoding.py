"""How to decode: the keywords of both clients' ``translate`` and ``generate``. Formulas: docs/decoding.md."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, TypedDict


class GenerationOptions(TypedDict, total=False):
    """What may be said of how any text is decoded, as keywords. None is the same as leaving the option out: its default
    holds.

    Ranges, and which options exclude each other, are for the server to judge: it names every fault at once.
    """

    min_length: int | None
    """Fewest target tokens before end-of-sentence may come: 0, the default, up to max_length - 1."""
    beam_size: int | None
    """Beam search with this many live hypotheses: 1, the default, up to 16."""
    num_hypotheses: int | None
    """Hypotheses to return, best first: 1, the default, up to beam_size, or up to 16 samples."""
    length_penalty: float | None
    """Exponent of the length in a hypothesis' rank: 0 to 5; default 1."""
    length_normalisation: Literal["plain", "wu"] | None
    """What the exponent is put on: "plain", the default, is the length, "wu" is (5 + length) / 6."""
    patience: float | None
    """Beam search goes on until patience x beam_size hypotheses have ended: more than 0, at most 8; default 1."""
    early_stopping: bool | None
    """Beam search ends as soon as no live hypothesis can still get among those to be returned."""

    temperature: float | None
    """Divides the logits before a token is drawn: more than 0, at most 10; default 1."""
    top_k: int | None
    """Draw from the k likeliest tokens only: 1 to 1000."""
    top_p: float | None
    """Draw from the likeliest tokens that together reach this probability: more than 0, at most 1."""
    min_p: float | None
    """Draw from tokens at least this share as likely as the likeliest: 0 to 1."""
    typical_p: float | None
    """Draw from the most typical tokens that together reach this probability: more than 0, at most 1."""
    seed: int | None
    """The same seed gives the same text, whatever else the server does: 0 to 2^64 - 1. None: drawn by the server."""

    repetition_penalty: float | None
    """Makes tokens already produced less likely, above 1, or likelier, below: 0.1 to 10; 1 is off."""
    presence_penalty: float | None
    """Taken off the logit of each token already produced: -2 to 2; 0 is off."""
    frequency_penalty: float | None
    """The same once for each time that it was produced: -2 to 2; 0 is off."""
    no_repeat_ngram_size: int | None
    """No so many tokens in a row come twice: 1 to 32; 0 is off."""
    banned_words: Collection[str] | None
    """Words or phrases that must not come in the pieces that the model's tokenizer makes of them (the same letters in
    other pieces can): at most 64, of at most 100 characters."""
    allowed_words: Collection[str] | None
    """Where given, nothing but the pieces of these words comes: at most 1024, of at most 100 characters."""

    target_prefix: str | None
    """The answer begins with this text: at most the model's limit of target tokens, less 1."""
    alternatives: int | None
    """The best continuation of each of the k likeliest next tokens after target_prefix: 2 to 16."""
    stop: Collection[str] | None
    """The text ends before the first of these strings: at most 16, of at most 100 characters."""


class Decoding(GenerationOptions, total=False):
    """Every option of decoding a translation, as keywords."""

    max_length: int | None
    """Most target tokens, end-of-sentence included: 1 up to the model's limit, which is the default."""
    max_length_ratio: float | None
    """Most target tokens for each source token: more than 0, at most 16. Where max_length is given too, the smaller
    of both holds."""
    min_length_ratio: float | None
    """Fewest target tokens for each source token: more than 0, at most 16. Where min_length is given too, the larger
    of both holds."""

    coverage_penalty: float | None
    """Weight of how much of the source a hypothesis has attended to in its rank: 0, the default, to 5."""
    replace_unknowns: bool | None
    """A token that is the model's unknown one is replaced by the source word that it attends to most. Without effect
    for models that never produce one, such as those with a byte-level vocabulary."""
