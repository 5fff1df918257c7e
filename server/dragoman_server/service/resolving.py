"""DecodingOptions of the wire, already checked, made into those of the engine: strings become ids."""

from __future__ import annotations

import secrets
from typing import TypeVar

from dragoman_protos.v1 import inference_pb2
from dragoman_server.codec import Codec
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences, resolve_lengths
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.errors import Violation
from dragoman_server.service.option_limits import has, samples
from dragoman_server.service.texts import unfit

_Number = TypeVar("_Number", int, float)


def resolve(
    options: inference_pb2.DecodingOptions, host: DecodingHost, source_tokens: int, *, room: int | None = None
) -> tuple[DecodingOptions | None, list[Violation]]:
    """The engine's options for a text of that many tokens, or the faults of ``target_prefix``.

    Of the target's tokens ``room``, where it is given, can be decoded at one time, and the prefix must be among them.
    """
    max_length, min_length = resolve_lengths(
        source_tokens,
        max_length=options.max_length if options.HasField("max_length") else host.bundle.limits.target_tokens,
        min_length=options.min_length,
        max_length_ratio=options.max_length_ratio if options.HasField("max_length_ratio") else None,
        min_length_ratio=options.min_length_ratio if options.HasField("min_length_ratio") else None,
    )
    prefix, violations = _prefix(options.target_prefix, min(max_length, room or max_length), host)
    if violations:
        return None, violations
    codec = host.codec
    resolved = DecodingOptions(
        max_length=max_length,
        min_length=min_length,
        beam_size=_given(options, "beam_size", 1),
        num_hypotheses=_given(options, "num_hypotheses", 1),
        length_penalty=LengthPenalty(
            _given(options, "length_penalty", 1.0),
            wu=options.length_normalisation == inference_pb2.LENGTH_NORMALISATION_WU,
        ),
        coverage_penalty=options.coverage_penalty,
        with_attention=options.replace_unknowns and host.unknown_id is not None,
        patience=_given(options, "patience", 1.0),
        early_stopping=options.early_stopping,
        sampling=_sampling(options) if samples(options) else None,
        repetition_penalty=_given(options, "repetition_penalty", 1.0),
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        banned=tuple(tuple(ids) for word in options.banned_words for ids in codec.spellings(word)),
        allowed=_allowed(options, codec),
        prefix=tuple(prefix),
        alternatives=options.alternatives,
        stop=StopSequences(tuple(options.stop), codec.decode) if options.stop else None,
    )
    return resolved, []


def _given(options: inference_pb2.DecodingOptions, field: str, default: _Number) -> _Number:
    value: _Number = getattr(options, field) if has(options, field) else default
    return value


def _sampling(options: inference_pb2.DecodingOptions) -> SamplingOptions:
    return SamplingOptions(
        seed=options.seed if options.HasField("seed") else secrets.randbits(64),
        temperature=_given(options, "temperature", 1.0),
        top_k=options.top_k,
        top_p=_given(options, "top_p", 1.0),
        min_p=options.min_p,
        typical_p=_given(options, "typical_p", 1.0),
    )


def _allowed(options: inference_pb2.DecodingOptions, codec: Codec) -> tuple[int, ...] | None:
    if not options.allowed_words:
        return None
    pieces = {token_id for word in options.allowed_words for ids in codec.spellings(word) for token_id in ids}
    return tuple(sorted(pieces))


def _prefix(text: str, max_length: int, host: DecodingHost) -> tuple[list[int], list[Violation]]:
    if not text:
        return [], []
    field = "options.target_prefix"
    if len(text) > host.longest_text:
        return [], [Violation(field, f"{len(text)} characters", f"at most {host.longest_text} characters")]
    if fault := unfit(text):
        return [], [Violation(field, fault, "text without NUL or lone surrogates")]
    ids = host.codec.encode(text)
    if len(ids) >= max_length:
        return [], [Violation(field, f"{len(ids)} tokens", f"at most {max_length - 1} tokens, fewer than max_length")]
    return ids, []
