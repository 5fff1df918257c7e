"""What DecodingOptions may say: every range and exclusion that inference.proto states, all faults at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.errors import Violation
from dragoman_server.service.texts import shortened, unfit

MOST_HYPOTHESES = 16
SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_LONGEST_STRING = 100
_MOST_BANNED, _MOST_ALLOWED, _MOST_STOPS = 64, 1024, 16

_RANGES: dict[str, tuple[float, float]] = {
    "length_penalty": (0, 5),
    "coverage_penalty": (0, 5),
    "top_k": (1, 1000),
    "min_p": (0, 1),
    "repetition_penalty": (0.1, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "no_repeat_ngram_size": (0, 32),
}
_MOST_ABOVE_ZERO: dict[str, float] = {
    "max_length_ratio": 16,
    "min_length_ratio": 16,
    "patience": 8,
    "temperature": 10,
    "top_p": 1,
    "typical_p": 1,
}


def has(options: inference_pb2.DecodingOptions, field: str) -> bool:
    """Whether an optional field was given."""
    return options.HasField(field)  # type: ignore[arg-type]  # the stub lists the names


def samples(options: inference_pb2.DecodingOptions) -> bool:
    """Whether the options ask for sampling."""
    return any(has(options, field) for field in SAMPLING_FIELDS)


def option_violations(
    options: inference_pb2.DecodingOptions, limits: bundle_pb2.Limits, max_rows: int
) -> list[Violation]:
    """Faults that show without a text; ``options`` are complete but for ``max_length``, ``max_rows`` a lane's rows."""
    return [
        *_numbers(options),
        *_lengths(options, limits.target_tokens),
        *_widths(options, min(MOST_HYPOTHESES, max_rows)),
        *_strings("banned_words", options.banned_words, _MOST_BANNED),
        *_strings("allowed_words", options.allowed_words, _MOST_ALLOWED),
        *_strings("stop", options.stop, _MOST_STOPS),
        *_stops_in_prefix(options),
    ]


def source_option_violations(options: inference_pb2.DecodingOptions) -> list[Violation]:
    """Options that a model without a source has no use for."""
    fields = ("max_length_ratio", "min_length_ratio", "coverage_penalty", "replace_unknowns")
    return [_violation(field, getattr(options, field), "not for generation") for field in fields if has(options, field)]


def _violation(field: str, value: object, limit: str) -> Violation:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return Violation(f"options.{field}", shown, limit)


def _numbers(options: inference_pb2.DecodingOptions) -> Iterator[Violation]:
    # Written so that NaN, which is neither more nor less than anything, is out of range.
    for field, (low, high) in _RANGES.items():
        if has(options, field) and not low <= (value := getattr(options, field)) <= high:
            yield _violation(field, value, f"{low:g} to {high:g}")
    for field, most in _MOST_ABOVE_ZERO.items():
        if has(options, field) and not 0 < (value := getattr(options, field)) <= most:
            yield _violation(field, value, f"more than 0, at most {most:g}")
    known = inference_pb2.LengthNormalisation.values()
    if options.length_normalisation not in known:
        yield _violation("length_normalisation", options.length_normalisation, f"one of {', '.join(map(str, known))}")


def _lengths(options: inference_pb2.DecodingOptions, most: int) -> Iterator[Violation]:
    longest = most
    if options.HasField("max_length"):
        if 1 <= options.max_length <= most:
            longest = options.max_length
        else:
            yield _violation("max_length", options.max_length, f"1 to {most} tokens")
    if options.min_length >= longest:
        yield _violation("min_length", options.min_length, f"0 to {longest - 1} tokens, fewer than max_length")
    if 0 < options.max_length_ratio < options.min_length_ratio:
        yield _violation("min_length_ratio", options.min_length_ratio, "at most max_length_ratio")


def _widths(options: inference_pb2.DecodingOptions, most: int) -> Iterator[Violation]:
    sampling = samples(options)
    beam_size = options.beam_size if options.HasField("beam_size") else 1
    hypotheses = options.num_hypotheses if options.HasField("num_hypotheses") else 1
    if not 1 <= beam_size <= most:
        yield _violation("beam_size", beam_size, f"1 to {most}")
    if sampling and beam_size > 1:
        yield _violation("beam_size", beam_size, f"1, where any of {', '.join(SAMPLING_FIELDS)} is given")
    if options.HasField("alternatives"):
        if not 2 <= options.alternatives <= most:
            yield _violation("alternatives", options.alternatives, f"2 to {most}")
        if sampling or beam_size > 1 or hypotheses > 1:
            yield _violation("alternatives", options.alternatives, "excludes sampling, beam_size and num_hypotheses")
    if sampling or options.HasField("alternatives"):
        if not 1 <= hypotheses <= most:
            yield _violation("num_hypotheses", hypotheses, f"1 to {most} samples")
    elif not 1 <= hypotheses <= max(1, min(beam_size, most)):
        yield _violation("num_hypotheses", hypotheses, f"1 to beam_size, {max(1, min(beam_size, most))}")


def _strings(field: str, strings: Sequence[str], most: int) -> Iterator[Violation]:
    if len(strings) > most:
        yield _violation(field, f"{len(strings)} strings", f"at most {most}")
        return
    for number, string in enumerate(strings):
        where = f"{field}[{number}]"
        if not string:
            yield _violation(where, "empty", f"1 to {_LONGEST_STRING} characters")
        elif len(string) > _LONGEST_STRING:
            yield _violation(where, f"{len(string)} characters", f"1 to {_LONGEST_STRING} characters")
        elif fault := unfit(string):
            yield _violation(where, fault, "text without NUL or lone surrogates")


def _stops_in_prefix(options: inference_pb2.DecodingOptions) -> Iterator[Violation]:
    if len(options.stop) > _MOST_STOPS or not options.target_prefix:
        return
    for number, string in enumerate(options.stop):
        if string and string in options.target_prefix:
            yield _violation(f"stop[{number}]", shortened(string), "not a part of target_prefix")


def merged(
    defaults: inference_pb2.DecodingOptions, given: inference_pb2.DecodingOptions
) -> inference_pb2.DecodingOptions:
    """The defaults under what was given: a list replaces the default list, and what excludes a default drops it."""
    result = inference_pb2.DecodingOptions()
    result.CopyFrom(defaults)
    widths = ("beam_size", "num_hypotheses", "alternatives")
    if samples(given) or given.HasField("alternatives"):
        _clear(result, (*widths, *SAMPLING_FIELDS))
    elif given.HasField("beam_size") or given.HasField("num_hypotheses"):
        _clear(result, ("num_hypotheses", "alternatives"))
    if given.beam_size > 1:
        _clear(result, SAMPLING_FIELDS)
    _clear(result, [name for name in ("banned_words", "allowed_words", "stop") if getattr(given, name)])
    result.MergeFrom(given)
    return result


def _clear(options: inference_pb2.DecodingOptions, fields: Iterable[str]) -> None:
    for field in fields:
        options.ClearField(field)  # type: ignore[arg-type]  # the stub lists the names
