"""A request made into what the engine takes, or refused with all its faults at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.service import segmentation
from dragoman_server.service.recipes import Recipe, Recipes
from dragoman_server.service.segmentation import MOST_CHARACTERS, MOST_SEGMENTS, Span
from dragoman_server.service.texts import shortened, unfit
from dragoman_server.service.translations import Segment, Translation
from dragoman_server.translation_host import TranslationHost
from dragoman_server.version_policy import MODEL_NAME, MODEL_VERSION

_NAME = re.compile(MODEL_NAME)
_LONGEST_NAME = 64
_NAME_LIMIT = f"at most {_LONGEST_NAME} lower-case letters, digits and hyphens, no hyphen first"
_VERSION = re.compile(MODEL_VERSION)
_HIGHEST_PRIORITY = 9
_SEGMENTATIONS = frozenset(inference_pb2.Segmentation.values())
_AROUND = 2
"""Language tag and end-of-sentence."""
INLINE_BYTES = 1000
"""A request up to this size takes a fraction of a millisecond; a larger one is looked at in another thread."""


@dataclass
class Draft:
    """A request whose faults are known as far as they show without tokenising."""

    request: inference_pb2.TranslateRequest
    recipe: Recipe
    text_violations: list[Violation]
    violations: list[Violation]
    spans: list[Span]
    """Of the text; empty where it has faults."""

    @property
    def texts(self) -> list[str]:
        """What has to be tokenised."""
        text = self.request.text
        return [text[begin:end] for begin, end in self.spans]


async def validate_translate(
    request: inference_pb2.TranslateRequest, catalogue: Catalogue, recipes: Recipes
) -> Translation:
    """Check every field against the model's limits and tokenise the text.

    Raises InvalidArgument with every fault, NotFound for a model that is not served.
    """
    if request.ByteSize() <= INLINE_BYTES:
        return _validated(request, catalogue, recipes)
    return await asyncio.to_thread(_validated, request, catalogue, recipes)


def _validated(request: inference_pb2.TranslateRequest, catalogue: Catalogue, recipes: Recipes) -> Translation:
    draft = drafted(request, catalogue, recipes)
    return finished(draft, draft.recipe.host.codec.encode_batch(draft.texts))


async def validate_score(request: inference_pb2.ScoreRequest, catalogue: Catalogue, recipes: Recipes) -> Translation:
    """The same for a request to score: one segment, whose options force the target."""
    if name := model_name_violations("model", request.model):
        raise InvalidArgument(name)
    recipe = recipes.find(
        catalogue,
        model=request.model,
        target_language=request.target_language,
        source_language=request.source_language,
        options=inference_pb2.DecodingOptions(),
    )
    host = recipe.host
    limits = host.bundle.limits
    strings = (
        ("text", request.text, limits.source_tokens, _AROUND),
        ("target", request.target, limits.target_tokens, 1),
    )
    violations: list[Violation] = [*recipe.violations, *priority_violations(request.priority)]
    encoded = []
    for field, text, most, around in strings:
        faults = _too_long_for_one(field, text, host) or text_violations(text, field)
        ids: list[int] = []
        if not faults:
            inline = len(text) <= INLINE_BYTES
            ids = host.codec.encode(text) if inline else await asyncio.to_thread(host.codec.encode, text)
            faults = _length_violations(field, len(ids) + around, most, around)
        encoded.append(ids)
        violations += faults
    if violations or recipe.target is None:
        raise InvalidArgument(violations)
    prefix = (*encoded[1], host.bundle.special_ids.eos)
    options = DecodingOptions(max_length=len(prefix), prefix=prefix, forced=True)
    segment = Segment(0, len(request.text), host.source_ids(encoded[0], recipe.target), options)
    return Translation(host, request.text, [segment], request.priority)


def drafted(request: inference_pb2.TranslateRequest, catalogue: Catalogue, recipes: Recipes) -> Draft:
    """What can be said of a request without tokenising. Raises NotFound, and InvalidArgument for a model's name."""
    text = request.text
    recipe = _recipe(request, catalogue, recipes)
    split = request.segmentation
    known = split in _SEGMENTATIONS
    violations = [*recipe.violations, *priority_violations(request.priority)]
    if not known:
        limit = f"one of {', '.join(map(str, sorted(_SEGMENTATIONS)))}"
        violations.append(Violation("segmentation", str(split), limit))
    whole = _is_one(split, recipe)
    faults = _too_long_for_one("text", text, recipe.host) if whole else _too_long(text, recipe.hypotheses)
    faults = faults or text_violations(text)
    spans: list[Span] = []
    if not faults and known:
        automatic = split == inference_pb2.SEGMENTATION_AUTO
        whole = whole or (automatic and segmentation.is_sentence(text, recipe.source_language))
        spans = [(0, len(text))] if whole else segmentation.sentences(text, recipe.source_language)
        faults = _too_many_segments(len(spans), recipe)
    return Draft(request, recipe, faults, violations, [] if faults else spans)


def _recipe(request: inference_pb2.TranslateRequest, catalogue: Catalogue, recipes: Recipes) -> Recipe:
    model, target, source, options = request.model, request.target_language, request.source_language, request.options
    # A name by which a recipe was made is a name: most requests are like others before them.
    if (recipe := recipes.kept(catalogue, model, target, source, options.SerializeToString())) is not None:
        return recipe
    if name := model_name_violations("model", model):
        # Without a model there are no limits: of the text can be said what holds for any, if that is quickly seen.
        text = request.text
        raise InvalidArgument([*(text_violations(text) if len(text) <= INLINE_BYTES else []), *name])
    return recipes.find(catalogue, model=model, target_language=target, source_language=source, options=options)


def _is_one(split: inference_pb2.Segmentation.ValueType, recipe: Recipe) -> bool:
    """Whether the text is one segment, whatever it says."""
    if split == inference_pb2.SEGMENTATION_NONE:
        return True
    return split == inference_pb2.SEGMENTATION_AUTO and recipe.continues


def finished(draft: Draft, encoded: Sequence[list[int]]) -> Translation:
    """The translation; ``encoded`` are the ids of the draft's texts. Raises InvalidArgument with every fault."""
    request, recipe = draft.request, draft.recipe
    host, text = recipe.host, request.text
    faults = list(draft.text_violations)
    limit = recipe.most_tokens
    parts: list[tuple[Span, list[int]]] = list(zip(draft.spans, encoded, strict=True))
    most = limit - _AROUND
    one = _is_one(request.segmentation, recipe)
    if any(len(ids) > most for ids in encoded):
        if one:
            faults += _length_violations("text", len(encoded[0]) + _AROUND, limit, _AROUND)
        else:
            parts = _cut(text, parts, most, host)
            long = next((ids for _, ids in parts if len(ids) > most), None)
            faults += _length_violations("text", len(long) + _AROUND, most + _AROUND, _AROUND) if long else []
            faults += _too_many_segments(len(parts), recipe)
    violations = [*faults, *draft.violations]
    segments: list[Segment] = []
    for (begin, end), ids in parts or [((0, 0), [])]:
        if parts and not (one or recipe.continues) and not segmentation.translatable(text[begin:end]):
            segments.append(Segment(begin, end))
            continue
        if not recipe.sound:
            break
        options, option_faults = recipe.resolved(len(ids))
        if option_faults or recipe.target is None:
            violations += option_faults
            break
        segments.append(Segment(begin, end, host.source_ids(ids, recipe.target), options))
    if violations:
        raise InvalidArgument(violations)
    return Translation(host, text, segments, request.priority, recipe.hypotheses, recipe.replaces_unknowns)


def _cut(
    text: str, parts: Iterable[tuple[Span, list[int]]], most: int, host: TranslationHost
) -> list[tuple[Span, list[int]]]:
    """Parts of at most so many tokens."""
    result: list[tuple[Span, list[int]]] = []
    for span, ids in parts:
        if len(ids) <= most:
            result.append((span, ids))
        else:
            spans = segmentation.cut(text, span, most, host.codec.offsets)
            result += zip(spans, host.codec.encode_batch([text[b:e] for b, e in spans]), strict=True)
    return result


def model_name_violations(field: str, reference: str) -> list[Violation]:
    """The fault of a reference to a model, NAME or NAME@VERSION, if it has one; an empty one is the default model's."""
    name, at, version = reference.partition("@")
    if not reference or (_is_name(name) and (not at or _VERSION.fullmatch(version))):
        return []
    limit = f"{_NAME_LIMIT}, and @VERSION if a certain one is meant"
    return [Violation(field, shortened(reference), limit)]


def version_violations(name: str, version: str) -> list[Violation]:
    """The faults of the name of a model in the repository and of a version of it; an empty version is left open."""
    violations = []
    if not _is_name(name):
        violations.append(Violation("name", shortened(name), _NAME_LIMIT))
    if version and not _VERSION.fullmatch(version):
        violations.append(Violation("version", shortened(version), "a whole number from 1, or empty"))
    return violations


def _is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def priority_violations(priority: int) -> list[Violation]:
    """The fault of a priority, if it has one."""
    return [] if priority <= _HIGHEST_PRIORITY else [Violation("priority", str(priority), f"0 to {_HIGHEST_PRIORITY}")]


def text_violations(text: str, field: str = "text") -> list[Violation]:
    """The faults of a text that no model could take. The text itself is never quoted."""
    if not text:
        return [Violation(field, "empty", "at least one character that is not white space")]
    if text.isspace():
        return [Violation(field, f"{len(text)} blank characters", "at least one character that is not white space")]
    if fault := unfit(text):
        return [Violation(field, fault, "text without NUL or lone surrogates")]
    return []


def _too_long_for_one(field: str, text: str, host: TranslationHost) -> list[Violation]:
    # First the bound by characters: neither scanning nor tokenising a text that cannot fit costs anything then.
    if len(text) <= host.longest_text:
        return []
    limit = f"at most {host.longest_text} characters, and {host.bundle.limits.source_tokens} tokens"
    return [Violation(field, f"{len(text)} characters", limit)]


def _too_long(text: str, hypotheses: int) -> list[Violation]:
    most = MOST_CHARACTERS // hypotheses
    if len(text) <= most:
        return []
    each = "" if hypotheses == 1 else f", {MOST_CHARACTERS} divided by {hypotheses} hypotheses"
    return [Violation("text", f"{len(text)} characters", f"at most {most} characters{each}")]


def _too_many_segments(number: int, recipe: Recipe) -> list[Violation]:
    if number > 1 and recipe.continues:
        given = "target_prefix" if recipe.options.target_prefix else "alternatives"
        return [Violation("text", f"{number} segments", f"1 segment, with options.{given}")]
    limit = f"at most {MOST_SEGMENTS} segments"
    return [] if number <= MOST_SEGMENTS else [Violation("text", f"{number} segments", limit)]


def _length_violations(field: str, tokens: int, most: int, around: int) -> list[Violation]:
    if tokens <= most:
        return []
    included = "language tag and end-of-sentence" if around > 1 else "end-of-sentence"
    return [Violation(field, f"{tokens} tokens", f"at most {most} tokens, {included} included")]
