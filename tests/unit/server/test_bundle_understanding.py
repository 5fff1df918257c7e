"""What loading says of an encoder-only bundle, sound and otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import BundleError, load_bundle
from tests.unit.server import tiny_encoder
from tests.unit.server.tiny import read_manifest, write_manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder.write_bundle(tmp_path_factory.mktemp("models") / "1")


def faults(sound: Path, tmp_path: Path, **changes: Any) -> list[str]:
    """What is found wrong with the bundle after these changes of its manifest; None takes an entry away."""
    root = Path(shutil.copytree(sound, tmp_path / "1"))
    manifest = read_manifest(root) | changes
    write_manifest(root, {key: value for key, value in manifest.items() if value is not None})
    with pytest.raises(BundleError) as caught:
        load_bundle(root, "fp32")
    return caught.value.faults


def test_a_sound_bundle_is_loaded_without_options_for_decoding(sound: Path) -> None:
    bundle = load_bundle(sound, "fp32")
    assert bundle.manifest.family == Bundle.FAMILY_ENCODER
    assert list(bundle.graphs) == ["encoder"]
    assert not bundle.default_options.ListFields()


def test_labels_and_tags_are_as_many_as_the_graph_has(sound: Path, tmp_path: Path) -> None:
    found = faults(sound, tmp_path, classifier={"labels": ["a", "b"]}, tagger={"tags": ["O", "B-PLACE"], "bio": True})
    assert sorted(found) == [
        "fp32: encoder output label_logits: dimension 1 is 5, expected 2",
        "fp32: encoder output tag_logits: dimension 1 is 5, expected 2",
    ]


def test_a_head_that_no_task_asks_for_is_a_fault(sound: Path, tmp_path: Path) -> None:
    tasks = ["TASK_CLASSIFY", "TASK_EMBED"]
    found = faults(sound, tmp_path, tasks=tasks, tagger=None)
    assert sorted(found) == [
        "fp32: encoder input mask_index: unknown",
        "fp32: encoder output mask_logits: unknown",
        "fp32: encoder output tag_logits: unknown",
    ]


def test_a_graph_of_two_segments_needs_to_be_told_them(sound: Path, tmp_path: Path) -> None:
    dimensions = read_manifest(sound)["dimensions"] | {"segments": 0}
    found = faults(sound, tmp_path, dimensions=dimensions)
    assert sorted(found) == [
        "classifier.pairs is set: dimensions.segments must be 2",
        "fp32: encoder input segments: unknown",
    ]


def test_all_faults_of_the_manifest_are_told_at_once(sound: Path, tmp_path: Path) -> None:
    found = faults(
        sound,
        tmp_path,
        dimensions=read_manifest(sound)["dimensions"] | {"segments": 3},
        limits={"sourceTokens": 2, "targetTokens": 9},
        specialIds={"pad": 0, "cls": 2, "sep": 3},
        classifier={"labels": ["a", "a", "b", "c", ""], "outOfScopeThreshold": 1.5},
        tagger={"tags": ["O", "PLACE", "B-PLACE", "I-PLACE", "X"], "bio": True},
    )
    assert found == [
        "limits.source_tokens = 2: at least 3 ([CLS], one token, [SEP])",
        "limits.target_tokens = 9: 0, since an encoder has no target",
        "dimensions.segments = 3: 0 or 2",
        "special_ids.mask is missing: TASK_FILL_MASK needs it",
        "classifier.labels: 'a' is empty or occurs twice",
        "classifier.labels: '' is empty or occurs twice",
        "classifier.out_of_scope_threshold = 1.5: 0 to 1",
        "tagger.tags: 'PLACE': O, or begins with B- or I-, since bio is set",
        "tagger.tags: 'X': O, or begins with B- or I-, since bio is set",
    ]


def test_a_task_without_its_names_is_a_fault_and_names_without_their_task(sound: Path, tmp_path: Path) -> None:
    found = faults(sound, tmp_path, tasks=["TASK_TAG", "TASK_FILL_MASK"], tagger=None)
    assert "tagger.tags: 0, but its task is there" in found
    assert "classifier.labels: 5, but its task is not there" in found
    assert "embedding_note is given, but TASK_EMBED is not" in found
