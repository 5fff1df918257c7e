"""What an encoder-only bundle must hold: the values of its manifest, and its one graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle_rules import FamilyRules
from dragoman_server.graphs import FLOAT, INT32, INT64, Port, Signature, check_graph

_OUTSIDE = "O"
_PAIR = 2


def text_encoder_signature(manifest: Bundle) -> Signature:
    """Inputs and outputs of an encoder-only model's ``encoder.onnx``, which has a head for each of its tasks.

    ``dragoman_server.packing`` says what the inputs mean. ``first_index`` is each text's first token, ``mask_index``
    the tokens whose places are to be filled.
    """
    dimensions, tasks = manifest.dimensions, manifest.tasks
    inputs = {
        "input_ids": Port(INT64, (None,)),
        "positions": Port(INT64, (None,)),
        "padded_index": Port(INT64, (None, None)),
        "attention_mask": Port(INT32, (None, None)),
        "packed_index": Port(INT64, (None,)),
        "first_index": Port(INT64, (None,)),
    }
    outputs = {"states": Port(FLOAT, (None, dimensions.d_model))}
    if dimensions.segments:
        inputs["segments"] = Port(INT64, (None,))
    if Bundle.TASK_CLASSIFY in tasks:
        outputs["label_logits"] = Port(FLOAT, (None, len(manifest.classifier.labels)))
    if Bundle.TASK_TAG in tasks:
        outputs["tag_logits"] = Port(FLOAT, (None, len(manifest.tagger.tags)))
    if Bundle.TASK_FILL_MASK in tasks:
        inputs["mask_index"] = Port(INT64, (None,))
        outputs["mask_logits"] = Port(FLOAT, (None, dimensions.vocabulary))
    return Signature(inputs, outputs)


def check_text_encoder(encoder: Path, manifest: Bundle) -> list[str]:
    """Faults of a graph file whose bytes are already trusted; empty where it fits."""
    faults: list[str] = []
    check_graph("encoder", encoder, text_encoder_signature(manifest), faults)
    return faults


def _check(graphs: Mapping[str, Path], manifest: Bundle) -> list[str]:
    return check_text_encoder(graphs["encoder"], manifest)


def _manifest_faults(manifest: Bundle) -> Iterator[str]:
    dimensions, limits, tasks = manifest.dimensions, manifest.limits, manifest.tasks
    if limits.source_tokens < 3:
        yield f"limits.source_tokens = {limits.source_tokens}: at least 3 ([CLS], one token, [SEP])"
    if limits.target_tokens:
        yield f"limits.target_tokens = {limits.target_tokens}: 0, since an encoder has no target"
    if manifest.languages:
        yield f"languages: {len(manifest.languages)}, but FAMILY_ENCODER has none"
    if dimensions.segments not in {0, _PAIR}:
        yield f"dimensions.segments = {dimensions.segments}: 0 or {_PAIR}"
    if Bundle.TASK_FILL_MASK in tasks and not manifest.special_ids.HasField("mask"):
        yield "special_ids.mask is missing: TASK_FILL_MASK needs it"
    yield from _names("classifier.labels", manifest.classifier.labels, wanted=Bundle.TASK_CLASSIFY in tasks)
    yield from _names("tagger.tags", manifest.tagger.tags, wanted=Bundle.TASK_TAG in tasks)
    yield from _classifier_faults(manifest)
    if manifest.tagger.bio:
        for tag in manifest.tagger.tags:
            if tag != _OUTSIDE and not tag.startswith(("B-", "I-")):
                yield f"tagger.tags: {tag!r}: {_OUTSIDE}, or begins with B- or I-, since bio is set"
    if manifest.embedding_note and Bundle.TASK_EMBED not in tasks:
        yield "embedding_note is given, but TASK_EMBED is not"


def _names(field: str, names: Sequence[str], *, wanted: bool) -> Iterator[str]:
    if bool(names) != wanted:
        yield f"{field}: {len(names)}, but its task is {'there' if wanted else 'not there'}"
    repeated = [name for name, count in Counter(names).items() if count > 1 or not name]
    yield from (f"{field}: {name!r} is empty or occurs twice" for name in repeated)


def _classifier_faults(manifest: Bundle) -> Iterator[str]:
    classifier = manifest.classifier
    if classifier.pairs and manifest.dimensions.segments != _PAIR:
        yield f"classifier.pairs is set: dimensions.segments must be {_PAIR}"
    threshold = classifier.out_of_scope_threshold
    if not 0 <= threshold <= 1:  # a NaN is outside, too
        yield f"classifier.out_of_scope_threshold = {threshold}: 0 to 1"


UNDERSTANDING_RULES = FamilyRules(
    tasks=frozenset({Bundle.TASK_CLASSIFY, Bundle.TASK_TAG, Bundle.TASK_FILL_MASK, Bundle.TASK_EMBED}),
    roles=("encoder",),
    dimensions=("vocabulary", "d_model", "num_heads", "head_dim", "encoder_layers"),
    special_ids=("pad", "cls", "sep"),
    manifest_faults=_manifest_faults,
    graph_faults=_check,
)
