"""What a request asks for beside its text: model, languages and options, checked once for all texts that share them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import Violation
from dragoman_server.model_host import ModelHost
from dragoman_server.service.option_limits import merged, option_violations, samples
from dragoman_server.service.resolving import resolve
from dragoman_server.service.texts import shortened
from dragoman_server.translation_host import TranslationHost

_KEPT = 256
_LONGEST_KEY = 4096
_LISTED_LANGUAGES = 40
_USUAL_LANGUAGE = "en"


@dataclass
class Recipe:
    """How to translate a text of one kind."""

    host: TranslationHost
    target: bundle_pb2.Language | None
    source_language: str
    """By whose rules a text is split into sentences."""
    options: inference_pb2.DecodingOptions
    """With the model's defaults."""
    violations: list[Violation]
    """Of languages and options: what is wrong with any text."""
    sound: bool
    """Whether the options have no fault, so that they can be resolved."""
    hypotheses: int = field(init=False)
    """How many each answer has."""
    continues: bool = field(init=False)
    """Whether the beginning of the answer is given, or its ways to go on are asked for."""
    replaces_unknowns: bool = field(init=False)
    most_tokens: int = field(init=False)
    """Of a source, all included."""
    _fixed: DecodingOptions | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.hypotheses = max(1, options.num_hypotheses, options.alternatives)
        self.continues = bool(options.target_prefix) or options.HasField("alternatives")
        self.replaces_unknowns = options.replace_unknowns and self.host.unknown_id is not None
        self.most_tokens = self.host.bundle.limits.source_tokens

    def resolved(self, source_tokens: int) -> tuple[DecodingOptions | None, list[Violation]]:
        """The engine's options for a text of that many tokens, or their faults."""
        if self._fixed is not None:
            return self._fixed, []
        resolved, violations = resolve(self.options, self.host, source_tokens)
        options = self.options
        varies = options.HasField("max_length_ratio") or options.HasField("min_length_ratio")
        if not varies and (options.HasField("seed") or not samples(options)):
            self._fixed = resolved
        return resolved, violations


class Recipes:
    """Keeps the recipes made last, but those with faults. Threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str, bytes], Recipe] = OrderedDict()

    def forget(self, host: ModelHost) -> None:
        """Let go of the host, which is not served any more."""
        for key, recipe in list(self._kept.items()):
            if recipe.host is host:
                self._kept.pop(key, None)

    def kept(
        self, catalogue: Catalogue, model: str, target_language: str, source_language: str, options: bytes
    ) -> Recipe | None:
        """The recipe as it was made before, from the same options serialised and for the model of today; else None."""
        recipe = self._kept.get((model, target_language, source_language, options))
        return recipe if recipe is not None and catalogue.finds(model, recipe.host) else None

    def find(
        self,
        catalogue: Catalogue,
        *,
        model: str,
        target_language: str,
        source_language: str,
        options: inference_pb2.DecodingOptions,
    ) -> Recipe:
        """The recipe; raises NotFound for no such model, InvalidArgument for one that translates nothing."""
        host = catalogue.find(model, TranslationHost, bundle_pb2.Bundle.TASK_TRANSLATE)
        key = (model, target_language, source_language, options.SerializeToString())
        recipe = self._kept.get(key)
        if recipe is None or recipe.host is not host:
            recipe = _recipe(host, target_language, source_language, options)
            if not recipe.violations and sum(map(len, key)) <= _LONGEST_KEY:
                self._kept[key] = recipe
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return recipe


def _recipe(
    host: TranslationHost, target_language: str, source_language: str, given: inference_pb2.DecodingOptions
) -> Recipe:
    options = merged(host.default_options, given)
    target = host.language(target_language)
    faults = option_violations(options, host.bundle.limits, host.max_rows)
    violations = [*_language_violations(host, target_language, source_language), *faults]
    others = [language.code for language in host.bundle.languages if language != target]
    source = source_language or (others[0] if len(others) == 1 else _USUAL_LANGUAGE)
    return Recipe(host, target, source, options, violations, sound=not faults)


def _language_violations(host: TranslationHost, target_language: str, source_language: str) -> list[Violation]:
    codes = [language.code for language in host.bundle.languages]
    known = ", ".join(codes[:_LISTED_LANGUAGES]) + (", ..." if len(codes) > _LISTED_LANGUAGES else "")
    violations = []
    target = host.language(target_language)
    if target is None:
        violations.append(Violation("target_language", shortened(target_language), f"one of {known}"))
    if source_language:
        source = host.language(source_language)
        if source is None:
            violations.append(Violation("source_language", shortened(source_language), f"one of {known}, or empty"))
        elif source == target:
            limit = "another language than target_language"
            violations.append(Violation("source_language", shortened(source_language), limit))
    return violations
