"""A request to generate or to score a continuation: what the engine takes, or all faults at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.errors import InvalidArgument, NotFound, Violation
from dragoman_server.generation_host import GenerationHost
from dragoman_server.service.generations import Generation, kept
from dragoman_server.service.option_limits import has, merged, option_violations, source_option_violations
from dragoman_server.service.resolving import resolve
from dragoman_server.service.segmentation import MOST_CHARACTERS
from dragoman_server.service.texts import shortened, unfit
from dragoman_server.service.validation import (
    INLINE_BYTES,
    model_name_violations,
    priority_violations,
    text_violations,
)
from dragoman_server.translation_host import TranslationHost

MOST_NEW_TOKENS = 65_536
"""Of a text whose window slides."""
_SLIDE = inference_pb2.CONTEXT_OVERFLOW_SLIDE
_OVERFLOWS = frozenset(inference_pb2.ContextOverflow.values())
_Bundle = bundle_pb2.Bundle


async def validate_generate(request: inference_pb2.GenerateRequest, catalogue: Catalogue) -> Generation:
    """Check every field against the model's limits and tokenise the prompt.

    Raises InvalidArgument with every fault, NotFound for a model that is not served.
    """
    if request.ByteSize() <= INLINE_BYTES:
        return _generation(request, catalogue)
    return await asyncio.to_thread(_generation, request, catalogue)


async def validate_continuation(request: inference_pb2.ScoreRequest, host: GenerationHost) -> Generation:
    """The same for a continuation to score, whose options force it."""
    if request.ByteSize() <= INLINE_BYTES:
        return _continuation(request, host)
    return await asyncio.to_thread(_continuation, request, host)


def scoring_host(catalogue: Catalogue, name: str) -> DecodingHost:
    """The model that scores: the named one; for "" the default if it can, otherwise the first that can.

    Raises NotFound where there is none, InvalidArgument where the named one scores nothing.
    """
    host = catalogue.resolve(name)
    if isinstance(host, DecodingHost):
        return host
    try:
        return catalogue.find(name, TranslationHost, _Bundle.TASK_TRANSLATE)
    except NotFound:
        return catalogue.find(name, GenerationHost, _Bundle.TASK_GENERATE)


def _generation(request: inference_pb2.GenerateRequest, catalogue: Catalogue) -> Generation:
    if name := model_name_violations("model", request.model):
        raise InvalidArgument([*_unfit("prompt", request.prompt), *name])
    host = catalogue.find(request.model, GenerationHost, _Bundle.TASK_GENERATE)
    options, slides = merged(host.default_options, request.options), request.context_overflow == _SLIDE
    limits = bundle_pb2.Limits(target_tokens=MOST_NEW_TOKENS if slides else host.window)
    option_faults = [*source_option_violations(options), *option_violations(options, limits, host.max_rows)]
    if slides:
        option_faults += _wide(options)
    text_faults = _text_faults("prompt", request.prompt, MOST_CHARACTERS if slides else host.longest_text, host)
    ids = [] if text_faults else host.codec.encode(request.prompt)
    violations = [*text_faults, *option_faults, *_overflow_violations(request), *priority_violations(request.priority)]
    asked = request.options.max_length if request.options.HasField("max_length") else None
    if not slides:
        violations += _window_violations(len(ids), asked, host.window)
    if option_faults or (len(ids) >= host.window and not slides):  # nothing is left that could be resolved
        raise InvalidArgument(violations)
    options.max_length = _max_length(len(ids), asked, host, slides)
    read = _read(len(ids), options.max_length, host.window) if slides else len(ids)
    if options.min_length >= options.max_length:
        limit = f"0 to {options.max_length - 1} tokens, fewer than there may be after the prompt"
        violations.append(Violation("options.min_length", str(options.min_length), limit))
    resolved, faults = resolve(options, host, len(ids), room=host.window - read)
    violations += faults
    if violations or resolved is None:
        raise InvalidArgument(violations)
    discarded = len(ids) - read
    return Generation(host, host.prompt_ids(ids[discarded:]), resolved, request.priority, discarded)


def _max_length(tokens: int, asked: int | None, host: GenerationHost, slides: bool) -> int:
    """New tokens at most, where the prompt has so many; by default what is left of the window."""
    if asked is not None:
        return asked
    window = host.window
    return min(host.default_max_length, max(window - tokens, window - kept(window)) if slides else window - tokens)


def _read(tokens: int, max_length: int, window: int) -> int:
    """How many of the prompt's last tokens are read: they leave room for what is new, or for half a window of it."""
    return min(tokens, window - min(max_length, window - kept(window)))


def _continuation(request: inference_pb2.ScoreRequest, host: GenerationHost) -> Generation:
    violations = [
        Violation(field, shortened(getattr(request, field)), "empty for a model that generates")
        for field in ("target_language", "source_language")
        if getattr(request, field)
    ]
    violations += priority_violations(request.priority)
    encoded = []
    for field, text in (("text", request.text), ("target", request.target)):
        faults = _text_faults(field, text, host.longest_text, host)
        if field == "target" and not faults:
            faults = text_violations(text, field)
        violations += faults
        encoded.append([] if faults else host.codec.encode(text))
    prompt, continuation = encoded
    if len(prompt) + len(continuation) > host.window:
        value = f"{len(continuation)} tokens, after a text of {len(prompt)}"
        violations.append(Violation("target", value, f"together at most {host.window} tokens, {_WINDOW}"))
    if violations:
        raise InvalidArgument(violations)
    options = DecodingOptions(max_length=len(continuation), prefix=tuple(continuation), forced=True)
    return Generation(host, host.prompt_ids(prompt), options, request.priority)


_WINDOW = "the model's window (limits.target_tokens)"


def _window_violations(tokens: int, asked: int | None, window: int) -> Iterator[Violation]:
    otherwise = "or context_overflow = CONTEXT_OVERFLOW_SLIDE"
    if tokens >= window:
        limit = f"at most {window - 1} tokens, fewer than {_WINDOW} of {window}; {otherwise}"
        yield Violation("prompt", f"{tokens} tokens", limit)
    elif asked is not None and window - tokens < asked <= window:
        value = f"{tokens} tokens, with options.max_length = {asked}"
        yield Violation("prompt", value, f"together at most {window} tokens, {_WINDOW}; {otherwise}")


def _wide(options: inference_pb2.DecodingOptions) -> Iterator[Violation]:
    for field in ("beam_size", "num_hypotheses", "alternatives"):
        if has(options, field) and (value := getattr(options, field)) > 1:
            yield Violation(f"options.{field}", str(value), "one hypothesis alone with CONTEXT_OVERFLOW_SLIDE")


def _overflow_violations(request: inference_pb2.GenerateRequest) -> Iterator[Violation]:
    if request.context_overflow not in _OVERFLOWS:
        limit = f"one of {', '.join(map(str, sorted(_OVERFLOWS)))}"
        yield Violation("context_overflow", str(request.context_overflow), limit)


def _text_faults(field: str, text: str, most: int, host: GenerationHost) -> list[Violation]:
    # First the bound by characters: neither scanning nor tokenising a text that cannot fit costs anything then.
    if len(text) > most:
        limit = f"at most {most} characters, and {host.window} tokens with what is new"
        return [Violation(field, f"{len(text)} characters", limit)]
    return _unfit(field, text)


def _unfit(field: str, text: str) -> list[Violation]:
    if len(text) <= MOST_CHARACTERS and (fault := unfit(text)):
        return [Violation(field, fault, "text without NUL or lone surrogates")]
    return []
