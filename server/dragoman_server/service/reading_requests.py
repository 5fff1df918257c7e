"""Requests to classify, tag, fill masks and embed: made into what the engine takes, or refused with all faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.catalogue import Catalogue
from dragoman_server.encoder_codec import MASK, Masked, Words
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.pass_runtime import EncoderInput
from dragoman_server.service.reading_jobs import Reading
from dragoman_server.service.validation import (
    INLINE_BYTES,
    model_name_violations,
    priority_violations,
    text_violations,
)
from dragoman_server.understanding_host import UnderstandingHost

MOST_TEXTS = 256
MOST_MASKS = 16
MOST_CANDIDATES = 1000
_POOLINGS = frozenset(inference_pb2.Pooling.values())
_AROUND = 2
"""[CLS] and [SEP]."""
_AROUND_PAIR = 3


class _Message(Protocol):
    """What all these requests have."""

    @property
    def model(self) -> str: ...

    @property
    def priority(self) -> int: ...

    def ByteSize(self) -> int:  # noqa: N802  (protobuf's name)
        ...


MessageT = TypeVar("MessageT", bound=_Message)
ReadingT = TypeVar("ReadingT")
TextT = TypeVar("TextT", bound=Words | Masked | None)


async def checked(
    check: Callable[[MessageT, Catalogue], ReadingT], request: MessageT, catalogue: Catalogue
) -> ReadingT:
    """``check`` the request, in another thread where that takes longer than a fraction of a millisecond."""
    if request.ByteSize() <= INLINE_BYTES:
        return check(request, catalogue)
    return await asyncio.to_thread(check, request, catalogue)


def check_classify(request: inference_pb2.ClassifyRequest, catalogue: Catalogue) -> Reading[None]:
    """Raises InvalidArgument with every fault, NotFound where no model is there that classifies."""
    host, violations = _model(request, catalogue, Bundle.TASK_CLASSIFY)
    violations += _count_violations("top_k", request.top_k)
    if not 0 <= request.min_probability <= 1:  # a NaN is outside, too
        violations.append(Violation("min_probability", f"{request.min_probability:g}", "0 to 1"))
    texts = {"text": request.text}
    if host is not None and not host.pairs and request.text_pair:
        limit = f"empty: {host.name} was trained on single texts"
        violations.append(Violation("text_pair", f"{len(request.text_pair)} characters", limit))
    elif request.text_pair or (host is not None and host.pairs):
        texts["text_pair"] = request.text_pair
    faults = [fault for field, text in texts.items() for fault in _text_violations(field, text, host)]
    violations = faults + violations
    if host is None or faults:
        raise InvalidArgument(violations)
    ids = host.codec.encode_batch(list(texts.values()))
    violations = _empty_violations(list(texts), ids) + violations
    given = host.codec.pair(*ids) if host.pairs else host.codec.single(*ids)
    violations = _length_violations("text", len(given.ids), host, pair=host.pairs) + violations
    return _sound(host, [given], request.priority, None, violations)


def check_tag(request: inference_pb2.TagRequest, catalogue: Catalogue) -> Reading[Words]:
    """Raises InvalidArgument with every fault, NotFound where no model is there that tags."""
    host, violations = _model(request, catalogue, Bundle.TASK_TAG)
    faults = _text_violations("text", request.text, host)
    if host is None or faults:
        raise InvalidArgument(faults + violations)
    words = host.codec.words(request.text)
    faults = _empty_violations(["text"], [words.ids])
    faults += _length_violations("text", len(words.ids) + _AROUND, host)
    return _sound(host, [host.codec.single(words.ids)], request.priority, words, faults + violations)


def check_fill_mask(request: inference_pb2.FillMaskRequest, catalogue: Catalogue) -> Reading[Masked]:
    """Raises InvalidArgument with every fault, NotFound where no model is there that fills masks."""
    host, violations = _model(request, catalogue, Bundle.TASK_FILL_MASK)
    violations += _count_violations("top_k", request.top_k)
    faults = _text_violations("text", request.text, host)
    masks = request.text.count(MASK)
    if not faults and not 1 <= masks <= MOST_MASKS:
        faults.append(Violation("text", f"{masks} times {MASK}", f"{MASK} 1 to {MOST_MASKS} times"))
    if host is None or faults:
        raise InvalidArgument(faults + violations)
    masked = host.codec.masked(request.text)
    faults = _length_violations("text", len(masked.ids) + _AROUND, host)
    return _sound(host, [host.codec.with_masks(masked)], request.priority, masked, faults + violations)


def check_embed(request: inference_pb2.EmbedRequest, catalogue: Catalogue) -> Reading[None]:
    """Raises InvalidArgument with every fault, NotFound where no model is there that embeds."""
    host, violations = _model(request, catalogue, Bundle.TASK_EMBED)
    if request.pooling not in _POOLINGS:
        limit = f"one of {', '.join(map(str, sorted(_POOLINGS)))}"
        violations.append(Violation("pooling", str(request.pooling), limit))
    faults = []
    if not 1 <= len(request.texts) <= MOST_TEXTS:
        faults.append(Violation("texts", f"{len(request.texts)} texts", f"1 to {MOST_TEXTS}"))
    fields = [f"texts[{number}]" for number in range(min(MOST_TEXTS, len(request.texts)))]
    for field, text in zip(fields, request.texts, strict=False):
        faults += _text_violations(field, text, host)
    if host is None or faults:
        raise InvalidArgument(faults + violations)
    encoded = host.codec.encode_batch(request.texts)
    faults = _empty_violations(fields, encoded)
    for field, ids in zip(fields, encoded, strict=True):
        faults += _length_violations(field, len(ids) + _AROUND, host)
    return _sound(host, [host.codec.single(ids) for ids in encoded], request.priority, None, faults + violations)


def _model(
    request: _Message, catalogue: Catalogue, task: Bundle.Task.ValueType
) -> tuple[UnderstandingHost | None, list[Violation]]:
    """The model and what is wrong with any request of the kind; None where its name has a fault, or is of another kind.

    Raises NotFound.
    """
    violations = priority_violations(request.priority)
    if name := model_name_violations("model", request.model):
        return None, name + violations
    try:
        return catalogue.find(request.model, UnderstandingHost, task), violations
    except InvalidArgument as error:
        return None, error.violations + violations


def _text_violations(field: str, text: str, host: UnderstandingHost | None) -> list[Violation]:
    # First the bound by characters: neither scanning nor tokenising a text that cannot fit costs anything then.
    if host is not None and len(text) > host.longest_text:
        limit = f"at most {host.longest_text} characters, and {host.bundle.limits.source_tokens} tokens"
        return [Violation(field, f"{len(text)} characters", limit)]
    return text_violations(text, field)


def _empty_violations(fields: Sequence[str], encoded: Sequence[Sequence[int]]) -> list[Violation]:
    # White space of a kind that only the tokenizer knows.
    limit = "at least one token of the model's vocabulary"
    return [Violation(field, "no token", limit) for field, ids in zip(fields, encoded, strict=True) if not ids]


def _length_violations(field: str, tokens: int, host: UnderstandingHost, *, pair: bool = False) -> list[Violation]:
    most = host.bundle.limits.source_tokens
    if tokens <= most:
        return []
    included = f"text_pair and {_AROUND_PAIR} special ones" if pair else f"{_AROUND} special ones"
    return [Violation(field, f"{tokens} tokens", f"at most {most} tokens (limits.source_tokens), {included} included")]


def _count_violations(field: str, count: int) -> list[Violation]:
    return [] if count <= MOST_CANDIDATES else [Violation(field, str(count), f"0 to {MOST_CANDIDATES}")]


def _sound(
    host: UnderstandingHost,
    inputs: Sequence[EncoderInput],
    priority: int,
    text: TextT,
    violations: list[Violation],
) -> Reading[TextT]:
    if violations:
        raise InvalidArgument(violations)
    return Reading(host, inputs, priority, text)
