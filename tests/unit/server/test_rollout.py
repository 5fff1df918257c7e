from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.explaining.graph import Array, Attention
from dragoman_server.explaining.rollout import mean_over, rolled_out, rollout
from dragoman_server.explaining.selection import Aggregation, Selection

FIRST = [[[0.5, 0.5], [0.0, 1.0]], [[0.7, 0.3], [0.4, 0.6]]]  # two heads
SECOND = [[[1.0, 0.0], [0.2, 0.8]], [[0.6, 0.4], [0.6, 0.4]]]
DIMENSIONS = Dimensions(num_heads=2, encoder_layers=3, decoder_layers=2)


def random_weights(layers: int, queries: int, keys: int, seed: int = 0) -> Array:
    weights = np.random.default_rng(seed).random((layers, 2, queries, keys), np.float32)
    normalised: Array = weights / weights.sum(axis=-1, keepdims=True)
    return normalised


def test_rollout_of_two_layers_worked_by_hand() -> None:
    # Means over heads: [[.6 .4] [.2 .8]] and [[.8 .2] [.4 .6]]; half of them and half of the identity:
    # [[.8 .2] [.1 .9]] and [[.9 .1] [.2 .8]]; the second times the first:
    expected = [[0.9 * 0.8 + 0.1 * 0.1, 0.9 * 0.2 + 0.1 * 0.9], [0.2 * 0.8 + 0.8 * 0.1, 0.2 * 0.2 + 0.8 * 0.9]]
    assert rollout(np.array([FIRST, SECOND], np.float32)) == pytest.approx(np.array(expected), abs=1e-6)


def test_cross_attention_goes_through_the_encoders_rollout() -> None:
    encoder = np.array([FIRST], np.float32)
    cross = np.array([[[[0.5, 0.5]], [[1.0, 0.0]]]], np.float32)  # one layer, two heads, one query
    found = rolled_out(Attention(encoder_self=encoder, decoder_self=random_weights(2, 1, 1), cross=cross))
    assert found.cross is not None
    # The heads' mean (.75 .25) times [[.8 .2] [.1 .9]].
    assert found.cross == pytest.approx(np.array([[[[0.625, 0.375]]]]), abs=1e-6)
    assert found.cross.shape == (1, 1, 1, 2)


@given(st.integers(1, 4), st.integers(1, 7), st.integers(0, 99))
def test_rollout_keeps_sums_of_one_and_causality(layers: int, time: int, seed: int) -> None:
    weights = np.tril(random_weights(layers, time, time, seed))
    weights /= weights.sum(axis=-1, keepdims=True)
    found = rollout(weights)
    assert np.allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    assert not np.triu(found, 1).any()


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_what_is_selected_has_the_size_that_was_said(aggregation: Aggregation) -> None:
    attention = Attention(random_weights(3, 5, 5), random_weights(2, 4, 4), random_weights(2, 4, 5))
    selection = Selection(aggregation=aggregation)
    found = selection.of(attention, DIMENSIONS)
    said = selection.bytes(Bundle.FAMILY_ENCODER_DECODER, DIMENSIONS, source=5, target=4)
    assert sum(each.weights.nbytes for each in found.values()) == said
    for each in found.values():
        assert np.allclose(each.weights.sum(axis=-1), 1.0, atol=1e-5)
        assert each.weights.shape[:2] == (len(each.layers) or 1, len(each.heads) or 1)


def test_layers_and_heads_are_those_asked_for() -> None:
    attention = Attention(random_weights(3, 5, 5), random_weights(2, 4, 4), random_weights(2, 4, 5))
    selection = Selection(layers=(2, 1), heads=(1,))
    found = selection.of(attention, DIMENSIONS)
    assert attention.encoder_self is not None
    assert attention.cross is not None
    assert (found["encoder_self"].layers, found["encoder_self"].heads) == ((2, 1), (1,))
    assert np.array_equal(found["encoder_self"].weights, attention.encoder_self[[2, 1]][:, [1]])
    assert found["cross"].layers == (1,)  # the decoder has no layer 2
    assert np.array_equal(found["cross"].weights, attention.cross[[1]][:, [1]])
    none = Selection(layers=(2,)).of(attention, DIMENSIONS)["cross"]
    assert none.weights.shape == (0, 2, 4, 5)
    said = Selection(layers=(2,)).bytes(Bundle.FAMILY_ENCODER_DECODER, DIMENSIONS, source=5, target=4)
    assert said == 2 * 25 * 4


def test_the_mean_over_heads_keeps_the_layers() -> None:
    weights = random_weights(3, 5, 5)
    found = mean_over(Attention(encoder_self=weights), (1,))
    assert found.encoder_self == pytest.approx(weights.mean(axis=1, keepdims=True))
    assert found.cross is None
