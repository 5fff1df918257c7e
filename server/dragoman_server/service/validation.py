"""A TranslateRequest made into what the engine takes, or refused with all its faults at once."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.model_host import Codec, ModelHost
from dragoman_server.service.option_limits import merged, option_violations
from dragoman_server.service.resolving import resolve
from dragoman_server.service.texts import shortened, unfit
from dragoman_server.settings import MODEL_NAME

_NAME = re.compile(MODEL_NAME)
_LONGEST_NAME = 64
_LISTED_LANGUAGES = 40
_INLINE_CHARACTERS = 1000
"""A text up to this length takes a fraction of a millisecond; a longer one is tokenised in another thread."""


@dataclass(frozen=True)
class Translation:
    """A request without faults."""

    host: ModelHost
    source_ids: list[int]
    options: DecodingOptions


async def validate_translate(request: inference_pb2.TranslateRequest, catalogue: Catalogue) -> Translation:
    """Check every field against the model's limits and tokenise the text.

    Raises InvalidArgument with every fault, NotFound for a model that is not served.
    """
    if name := model_name_violations("model", request.model):
        # Without a model there are no limits: of the text can be said what holds for any, if that is quickly seen.
        text = text_violations(request.text) if len(request.text) <= _INLINE_CHARACTERS else []
        raise InvalidArgument([*text, *name])
    host = catalogue.resolve(request.model)
    text = _fitting_text_violations(request.text, host)
    text_ids: list[int] = []
    if not text:
        text_ids = await _encode(host.codec, request.text)
        text = _length_violations(host.source_ids(text_ids, host.bundle.languages[0]), host)
    target = host.language(request.target_language)
    options = merged(host.default_options, request.options)
    option_faults = option_violations(options, host.bundle.limits, host.max_rows)
    resolved: DecodingOptions | None = None
    if not option_faults:
        resolved, option_faults = await _resolve(options, host, len(text_ids))
    violations = [*text, *_language_violations(request, host, target), *option_faults]
    if violations or target is None or resolved is None:
        raise InvalidArgument(violations)
    return Translation(host, host.source_ids(text_ids, target), resolved)


def model_name_violations(field: str, name: str) -> list[Violation]:
    """The fault of a model's name, if it has one; an empty name means the default model."""
    if not name or (len(name) <= _LONGEST_NAME and _NAME.fullmatch(name)):
        return []
    limit = f"at most {_LONGEST_NAME} lower-case letters, digits and hyphens, no hyphen first"
    return [Violation(field, shortened(name), limit)]


def text_violations(text: str) -> list[Violation]:
    """The faults of a text that no model could take. The text itself is never quoted."""
    if not text:
        return [Violation("text", "empty", "at least one character that is not white space")]
    if text.isspace():
        return [Violation("text", f"{len(text)} blank characters", "at least one character that is not white space")]
    if fault := unfit(text):
        return [Violation("text", fault, "text without NUL or lone surrogates")]
    return []


def _fitting_text_violations(text: str, host: ModelHost) -> list[Violation]:
    # First the bound by characters: neither scanning nor tokenising a text that cannot fit costs anything then.
    if len(text) > host.longest_text:
        limit = f"at most {host.longest_text} characters, and {host.bundle.limits.source_tokens} tokens"
        return [Violation("text", f"{len(text)} characters", limit)]
    return text_violations(text)


def _length_violations(source_ids: list[int], host: ModelHost) -> list[Violation]:
    most = host.bundle.limits.source_tokens
    if len(source_ids) <= most:
        return []
    limit = f"at most {most} tokens, language tag and end-of-sentence included"
    return [Violation("text", f"{len(source_ids)} tokens", limit)]


def _language_violations(
    request: inference_pb2.TranslateRequest, host: ModelHost, target: bundle_pb2.Language | None
) -> list[Violation]:
    codes = [language.code for language in host.bundle.languages]
    known = ", ".join(codes[:_LISTED_LANGUAGES]) + (", ..." if len(codes) > _LISTED_LANGUAGES else "")
    violations = []
    if target is None:
        violations.append(Violation("target_language", shortened(request.target_language), f"one of {known}"))
    if request.source_language:
        source = host.language(request.source_language)
        if source is None:
            limit = f"one of {known}, or empty"
            violations.append(Violation("source_language", shortened(request.source_language), limit))
        elif source == target:
            limit = "another language than target_language"
            violations.append(Violation("source_language", shortened(request.source_language), limit))
    return violations


async def _resolve(
    options: inference_pb2.DecodingOptions, host: ModelHost, source_tokens: int
) -> tuple[DecodingOptions | None, list[Violation]]:
    strings = (options.target_prefix, *options.banned_words, *options.allowed_words)
    if sum(map(len, strings)) <= _INLINE_CHARACTERS:
        return resolve(options, host, source_tokens)
    return await asyncio.to_thread(resolve, options, host, source_tokens)


async def _encode(codec: Codec, text: str) -> list[int]:
    if len(text) <= _INLINE_CHARACTERS:
        return codec.encode(text)
    return await asyncio.to_thread(codec.encode, text)
