from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_protos.v1.bundle_pb2 import Classifier, Tagger
from dragoman_server import readings
from dragoman_server.encoder_codec import Words
from dragoman_server.pass_runtime import EncoderOutput

TAGS = ["O", "B-PLACE", "I-PLACE", "B-ANIMAL", "I-ANIMAL"]
STATES = np.array([[9.0, 9.0], [3.0, 0.0], [3.0, 8.0], [9.0, 9.0]], np.float32)


def labelled(*logits: float) -> EncoderOutput:
    return EncoderOutput(STATES, label_logits=np.array(logits, np.float32))


def test_one_label_of_several_by_softmax() -> None:
    found = readings.labels(labelled(0.0, math.log(3), 0.0, -100.0), Classifier())
    assert [number for number, _ in found] == [1, 0, 2, 3]
    assert [probability for _, probability in found] == pytest.approx([0.6, 0.2, 0.2, 0.0])


def test_several_labels_at_a_time_each_by_itself() -> None:
    found = readings.labels(labelled(-math.log(3), 0.0, math.log(3)), Classifier(multi_label=True))
    assert [number for number, _ in found] == [2, 1, 0]
    assert [probability for _, probability in found] == pytest.approx([0.75, 0.5, 0.25])


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=9), st.booleans())
def test_probabilities_are_probabilities(logits: list[float], multi_label: bool) -> None:
    found = readings.labels(labelled(*logits), Classifier(multi_label=multi_label))
    assert sorted(number for number, _ in found) == list(range(len(logits)))
    assert all(0 <= probability <= 1 for _, probability in found)
    assert [probability for _, probability in found] == sorted((p for _, p in found), reverse=True)
    if not multi_label:
        assert sum(probability for _, probability in found) == pytest.approx(1)


def test_the_threshold_says_what_is_out_of_scope() -> None:
    best = readings.Scored(0, 0.5)
    assert readings.out_of_scope(best, Classifier()) is None
    assert readings.out_of_scope(best, Classifier(out_of_scope_threshold=0.75)) is True
    assert readings.out_of_scope(best, Classifier(out_of_scope_threshold=0.5)) is False


def tagged(*tags: str | None, bio: bool = True) -> list[tuple[str, int, int]]:
    """One word of two pieces for each tag, three letters apart; None: the word has no piece."""
    first: list[int | None] = []
    logits = [[0.0] * len(TAGS)]  # of [CLS]
    for tag in tags:
        first.append(None if tag is None else len(logits) - 1)
        if tag is not None:
            # The second piece would say something else.
            logits += [[5.0 * (tag == other) for other in TAGS], [50.0 * (other == "B-ANIMAL") for other in TAGS]]
    output = EncoderOutput(STATES, tag_logits=np.array([*logits, [0.0] * len(TAGS)], np.float32))
    words = Words([(3 * n, 3 * n + 2) for n in range(len(tags))], [0] * (len(logits) - 1), first)
    found = readings.spans(output, words, Tagger(tags=TAGS, bio=bio))
    sure = math.exp(5) / (math.exp(5) + len(TAGS) - 1)
    assert [span.probability for span in found] == pytest.approx([sure] * len(found))
    return [(span.tag, span.begin, span.end) for span in found]


def test_words_of_one_span_are_joined() -> None:
    assert tagged("O", "B-PLACE", "I-PLACE", "O") == [("PLACE", 3, 8)]
    assert tagged("B-PLACE", "B-PLACE") == [("PLACE", 0, 2), ("PLACE", 3, 5)]
    assert tagged("B-PLACE", "I-ANIMAL", "I-ANIMAL") == [("PLACE", 0, 2), ("ANIMAL", 3, 8)]
    assert tagged("I-PLACE", "O", "I-PLACE") == [("PLACE", 0, 2), ("PLACE", 6, 8)]
    assert tagged("B-PLACE", None, "I-PLACE") == [("PLACE", 0, 8)]
    assert tagged() == []


def test_without_bio_each_word_is_a_span() -> None:
    assert tagged("O", None, "B-PLACE", bio=False) == [("O", 0, 2), ("B-PLACE", 6, 8)]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*TAGS, None]), max_size=12))
def test_spans_never_overlap_and_cover_just_what_is_inside(tags: list[str | None]) -> None:
    found = tagged(*tags)
    assert all(end <= begin for (_, _, end), (_, begin, _) in itertools.pairwise(found))
    for number, tag in enumerate(tags):
        inside = [span for span in found if span[1] <= 3 * number < span[2]]
        if tag is not None:
            assert [span[0] for span in inside] == ([] if tag == "O" else [tag[2:]])


def test_candidates_stand_for_text() -> None:
    output = EncoderOutput(
        STATES, mask_logits=np.array([[9.0, 0.0, math.log(3), 0.0], [0.0, 1.0, 2.0, 3.0]], np.float32)
    )
    found = readings.candidates(output, 0, 2, {0})
    assert [number for number, _ in found] == [2, 1]
    assert [probability for _, probability in found] == pytest.approx([0.6, 0.2])
    assert [number for number, _ in readings.candidates(output, 1, 1000, {0})] == [3, 2, 1]


def test_a_vector_is_the_mean_over_the_text_or_the_state_before_it() -> None:
    output = EncoderOutput(STATES)
    np.testing.assert_allclose(readings.embedding(output, of_cls=False, normalise=False), [3, 4])
    np.testing.assert_allclose(readings.embedding(output, of_cls=False, normalise=True), [0.6, 0.8])
    np.testing.assert_allclose(readings.embedding(output, of_cls=True, normalise=False), [9, 9])
    nothing = EncoderOutput(np.zeros_like(STATES))
    np.testing.assert_array_equal(readings.embedding(nothing, of_cls=False, normalise=True), [0, 0])
