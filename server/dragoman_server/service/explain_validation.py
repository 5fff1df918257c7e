"""A request to explain made into what is read by the model, or refused with all its faults at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.explaining.explainer import Explainer
from dragoman_server.explaining.selection import Aggregation, Selection, kinds
from dragoman_server.explaining.tokens import Codec, ReadToken, decoded_offsets, read_tokens
from dragoman_server.generation_host import GenerationHost
from dragoman_server.model_host import ModelHost
from dragoman_server.service.recipes import Recipe, Recipes
from dragoman_server.service.texts import shortened
from dragoman_server.service.validation import model_name_violations, priority_violations, text_violations
from dragoman_server.translation_host import TranslationHost
from dragoman_server.understanding_host import UnderstandingHost

DEFAULT_NEW_TOKENS = 16
_AGGREGATIONS = {
    inference_pb2.AGGREGATION_NONE: Aggregation.NONE,
    inference_pb2.AGGREGATION_MEAN_HEADS: Aggregation.MEAN_HEADS,
    inference_pb2.AGGREGATION_MEAN: Aggregation.MEAN,
    inference_pb2.AGGREGATION_ROLLOUT: Aggregation.ROLLOUT,
}
_TOKEN_BYTES = 64
"""Of a message, for a token and its place; more than that for a very long one."""


@dataclass
class Subject:
    """What is to be explained. The model's own continuation may still be to come."""

    host: ModelHost
    explainer: Explainer
    selection: Selection
    text: str
    target_text: str = ""
    source: list[ReadToken] = field(default_factory=list)
    """What the encoder reads."""
    target: list[ReadToken] = field(default_factory=list)
    """What the decoder reads; as far as it is known."""
    segments: list[int] = field(default_factory=list)
    greedy_from: Sequence[int] | None = None
    """What the engine is to continue greedily: the source's ids, or the prompt's."""
    new_tokens: int = 0
    """The most tokens that it may add."""
    priority: int = 0
    most_bytes: int = 0
    tokens_given: int = 0
    tokens_produced: int = 0
    """By the engine, end-of-sentence included."""

    @property
    def codec(self) -> Codec:
        """The model's."""
        assert isinstance(self.host, DecodingHost | UnderstandingHost)
        return self.host.codec

    @property
    def family(self) -> Bundle.Family.ValueType:
        """Of the model."""
        return self.host.bundle.family

    def continue_with(self, answer: Answer) -> None:
        """Take what the engine has decoded. Raises InvalidArgument where the message would now be too large."""
        codec, ids = self.codec, answer.token_ids
        before = len(self.text) if self.family == Bundle.FAMILY_DECODER else 0
        self.tokens_produced = len(answer.log_probs)
        self.target_text = codec.decode(ids)
        added = read_tokens(ids, decoded_offsets(ids, self.target_text, codec), self.target_text, after=before)
        # The last of a target that was cut for its length was produced, but never read.
        self.target = [*self.target, *added][: self.host.bundle.limits.target_tokens]
        self.greedy_from = None
        if faults := size_violations(self):
            raise InvalidArgument(faults)


def validate_explain(
    request: inference_pb2.ExplainRequest, catalogue: Catalogue, recipes: Recipes, *, most_bytes: int
) -> Subject:
    """Check every field against the model and tokenise the texts. ``most_bytes`` bounds the answer.

    Raises InvalidArgument with every fault, NotFound for a model that is not served.
    """
    if name := model_name_violations("model", request.model):
        raise InvalidArgument(name)
    host = catalogue.resolve(request.model)
    if host.explainer is None:
        limit = "a model whose bundle has an explain.onnx, which this one's has not"
        raise InvalidArgument([Violation("model", host.name, limit)])
    violations = [
        *_selection_violations(request, host.bundle),
        *_unfit(request, host.bundle.family),
        *priority_violations(request.priority),
    ]
    aggregation = _AGGREGATIONS.get(request.aggregation, Aggregation.NONE)
    selection = Selection(tuple(request.layers), tuple(request.heads), aggregation)
    subject = Subject(
        host, host.explainer, selection, request.text, request.target, priority=request.priority, most_bytes=most_bytes
    )
    if isinstance(host, TranslationHost):
        recipe = recipes.find(
            catalogue,
            model=host.name,
            target_language=request.target_language,
            source_language=request.source_language,
            options=inference_pb2.DecodingOptions(),
        )
        violations += _translation(subject, host, request, recipe)
    elif isinstance(host, UnderstandingHost):
        violations += _reading(subject, host, request)
    else:
        assert isinstance(host, GenerationHost)
        violations += _generation(subject, host, request)
    subject.tokens_given = len(subject.source) or len(subject.target)
    violations += size_violations(subject) if not violations else []
    if violations:
        raise InvalidArgument(violations)
    return subject


def _translation(
    subject: Subject, host: TranslationHost, request: inference_pb2.ExplainRequest, recipe: Recipe
) -> list[Violation]:
    """Fill in source and target; returns their faults, and those of the languages."""
    special, limits = host.bundle.special_ids, host.bundle.limits
    violations = [*recipe.violations]
    ids, faults = _encoded("text", request.text, host, limits.source_tokens, 2)
    violations += faults
    if not faults and recipe.target is not None:
        subject.source = [
            ReadToken(recipe.target.tag_id, special=True),
            *read_tokens(ids, host.codec.offsets(request.text), request.text),
            ReadToken(special.eos, special=True),
        ]
    subject.target = [ReadToken(special.bos, special=True)]
    if request.target:
        given, faults = _encoded("target", request.target, host, limits.target_tokens, 1)
        violations += faults
        if not faults:
            subject.target += read_tokens(given, host.codec.offsets(request.target), request.target)
    else:
        subject.greedy_from = [token.token_id for token in subject.source]
        subject.new_tokens = host.default_max_length
    return violations


def _generation(subject: Subject, host: GenerationHost, request: inference_pb2.ExplainRequest) -> list[Violation]:
    """Fill in prompt and continuation; returns their faults."""
    ids, violations = _encoded("text", request.text, host, host.window, 1)
    read = [] if violations else read_tokens(ids, host.codec.offsets(request.text), request.text)
    subject.target = [ReadToken(host.bundle.special_ids.bos, special=True), *read]
    left = host.window - len(subject.target)
    if request.target:
        given, faults = _encoded("target", request.target, host, host.window, len(subject.target))
        violations += faults
        if not faults:
            places = host.codec.offsets(request.target)
            subject.target += read_tokens(given, places, request.target, after=len(request.text))
    elif left and not violations:
        subject.new_tokens = request.max_new_tokens or min(DEFAULT_NEW_TOKENS, left)
        if subject.new_tokens > left:
            limit = f"1 to {left}, what the prompt of {len(subject.target)} tokens leaves of the window"
            violations.append(Violation("max_new_tokens", str(request.max_new_tokens), limit))
        subject.greedy_from = [token.token_id for token in subject.target]
    return violations


def _reading(subject: Subject, host: UnderstandingHost, request: inference_pb2.ExplainRequest) -> list[Violation]:
    """Fill in the text, and the second one of a pair; returns their faults."""
    special, most = host.bundle.special_ids, host.bundle.limits.source_tokens
    texts = {"text": request.text} | ({"text_pair": request.text_pair} if request.text_pair else {})
    if request.text_pair and not host.bundle.dimensions.segments:
        return [Violation("text_pair", shortened(request.text_pair), "empty: the model reads one text")]
    violations: list[Violation] = []
    subject.source = [ReadToken(special.cls, special=True)]
    after = 0
    for number, (name, text) in enumerate(texts.items()):
        ids, faults = _encoded(name, text, host, most, 2)
        violations += faults
        if not faults:
            subject.source += read_tokens(ids, host.codec.offsets(text), text, after=after)
        subject.source.append(ReadToken(special.sep, special=True))
        subject.segments += [number] * (len(subject.source) - len(subject.segments))
        after += len(text)
    if not violations and len(subject.source) > most:
        violations.append(Violation("text_pair", f"{len(subject.source)} tokens", f"at most {most} with the text"))
    return violations


def _encoded(
    field_name: str, text: str, host: DecodingHost | UnderstandingHost, most: int, around: int
) -> tuple[list[int], list[Violation]]:
    """The ids of a text that with ``around`` others are at most ``most``, or its faults."""
    if len(text) > host.longest_text:
        return [], [Violation(field_name, f"{len(text)} characters", f"at most {host.longest_text} characters")]
    if faults := text_violations(text, field_name):
        return [], faults
    (ids,) = host.codec.encode_batch([text])
    if len(ids) + around > most:
        limit = f"at most {most} tokens, {around} of others included"
        return [], [Violation(field_name, f"{len(ids) + around} tokens", limit)]
    return ids, []


def _selection_violations(request: inference_pb2.ExplainRequest, bundle: Bundle) -> list[Violation]:
    violations = []
    dimensions = bundle.dimensions
    deepest = max(_layers(kind, dimensions) for kind in kinds(bundle.family))
    for name, given, count in (("layers", request.layers, deepest), ("heads", request.heads, dimensions.num_heads)):
        if any(number >= count for number in given) or len(set(given)) < len(given):
            shown = shortened(", ".join(map(str, list(given)[:20])))
            violations.append(Violation(name, shown, f"each once, 0 to {count - 1}"))
    aggregation = _AGGREGATIONS.get(request.aggregation)
    if aggregation is None:
        limit = f"one of {', '.join(map(str, sorted(_AGGREGATIONS)))}"
        violations.append(Violation("aggregation", str(request.aggregation), limit))
    elif aggregation != Aggregation.NONE:
        limit = f"not with the {aggregation.value}"
        if request.heads:
            violations.append(Violation("heads", f"{len(request.heads)} given", limit))
        if request.layers and aggregation != Aggregation.MEAN_HEADS:
            violations.append(Violation("layers", f"{len(request.layers)} given", limit))
    return violations


def _layers(kind: str, dimensions: Dimensions) -> int:
    return dimensions.encoder_layers if kind == "encoder_self" else dimensions.decoder_layers


def _unfit(request: inference_pb2.ExplainRequest, family: Bundle.Family.ValueType) -> list[Violation]:
    """Fields that the family has no use for."""
    kind = {Bundle.FAMILY_DECODER: "generates", Bundle.FAMILY_ENCODER: "reads alone"}.get(family, "translates")
    names = {
        "translates": ("text_pair", "max_new_tokens"),
        "generates": ("text_pair", "target_language", "source_language"),
        "reads alone": ("target", "target_language", "source_language", "max_new_tokens"),
    }[kind]
    given = [name for name in names if getattr(request, name)]
    violations = [
        Violation(name, shortened(str(getattr(request, name))), f"not for a model that {kind}") for name in given
    ]
    if kind == "generates" and request.target and request.max_new_tokens:
        violations.append(Violation("max_new_tokens", str(request.max_new_tokens), "0 where a target is given"))
    return violations


def size_violations(subject: Subject) -> list[Violation]:
    """The fault of an answer that would not fit into a message, as far as its tokens are known."""
    source, target = len(subject.source), len(subject.target)
    dimensions = subject.host.bundle.dimensions
    others = _TOKEN_BYTES * (source + target) + 4 * len(subject.target_text) + 1024
    size = subject.selection.bytes(subject.family, dimensions, source, target)
    if size + others <= subject.most_bytes:
        return []
    most = max(0, subject.most_bytes - others)
    smaller = Selection(aggregation=Aggregation.MEAN_HEADS).bytes(subject.family, dimensions, source, target)
    ways = "name fewer layers or heads, or ask for an aggregation"
    if subject.selection.aggregation == Aggregation.NONE:
        ways += f" (the mean over the heads: {smaller} bytes)"
    value = f"{size} bytes of weights for {source} source and {target} target tokens"
    return [Violation("layers", value, f"at most {most} bytes, or a shorter text; {ways}")]
