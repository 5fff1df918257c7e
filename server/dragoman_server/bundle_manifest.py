"""What a manifest says, checked without a look at the other files; and where each family's rules are found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle_rules import FamilyRules
from dragoman_server.graphs_generation import GENERATION_RULES
from dragoman_server.graphs_translation import TRANSLATION_RULES
from dragoman_server.graphs_understanding import UNDERSTANDING_RULES

FORMAT_VERSION = 1
RULES: dict[Bundle.Family.ValueType, FamilyRules] = {
    Bundle.FAMILY_ENCODER_DECODER: TRANSLATION_RULES,
    Bundle.FAMILY_DECODER: GENERATION_RULES,
    Bundle.FAMILY_ENCODER: UNDERSTANDING_RULES,
}
"""The families that this server runs."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def manifest_faults(manifest: Bundle) -> Iterator[str]:
    """Values that contradict each other or the format, without a look at the other files."""
    dimensions, rules = manifest.dimensions, RULES.get(manifest.family)
    if manifest.format_version != FORMAT_VERSION:
        yield f"format_version = {manifest.format_version}: this server reads {FORMAT_VERSION}"
    if not _NAME.fullmatch(manifest.name):
        yield f"name = {manifest.name!r}: lower-case letters, digits and hyphens"
    if rules is None:
        yield f"family = {manifest.family}: this server runs {', '.join(map(Bundle.Family.Name, RULES))}"
    else:
        yield from _family_faults(manifest, rules)
    if dimensions.num_heads * dimensions.head_dim != dimensions.d_model:
        yield f"dimensions.d_model = {dimensions.d_model}: num_heads x head_dim"
    if dimensions.top_k > dimensions.vocabulary:
        yield f"dimensions.top_k = {dimensions.top_k}: at most the vocabulary, {dimensions.vocabulary}"
    for label, values in (("code", [x.code for x in manifest.languages]), ("tag", [x.tag for x in manifest.languages])):
        yield from (f"languages: {label} {value!r} is empty or occurs twice" for value in _not_unique(values))
    if not manifest.precisions:
        yield "precisions = {}: at least one"


def _family_faults(manifest: Bundle, rules: FamilyRules) -> Iterator[str]:
    for name in rules.dimensions:
        if getattr(manifest.dimensions, name) < 1:
            yield f"dimensions.{name} = {getattr(manifest.dimensions, name)}: at least 1"
    foreign = [task for task in manifest.tasks if task not in rules.tasks]
    if foreign or not manifest.tasks:
        names = [", ".join(map(Bundle.Task.Name, tasks)) for tasks in (manifest.tasks, sorted(rules.tasks))]
        yield f"tasks = [{names[0]}]: one or more of {names[1]}"
    ids = [getattr(manifest.special_ids, name) for name in rules.special_names(manifest)]
    ids += [language.tag_id for language in manifest.languages]
    yield from (f"special_ids and tag_ids: {value} occurs twice" for value, count in Counter(ids).items() if count > 1)
    for precision, graphs in manifest.precisions.items():
        for role in {"encoder", "decoder"}.difference(rules.roles):
            if path := getattr(graphs, role):
                family = Bundle.Family.Name(manifest.family)
                yield f"precisions.{precision}.{role} = {path!r}: {family} has no such graph"
    yield from rules.manifest_faults(manifest)


def _not_unique(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1 or not value]
