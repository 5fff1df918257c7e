"""Pairs for next-sentence prediction: half follow, none crosses documents, random ones are never the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_model.next_sentences import sentence_pairs


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_every_sentence_with_a_next_one_begins_a_pair(lengths: list[int], seed: int, epoch: int) -> None:
    documents = np.repeat(np.arange(len(lengths)), lengths)
    pairs = sentence_pairs(documents, seed, epoch)
    assert [p.first for p in pairs] == [i for i in range(len(documents) - 1) if documents[i] == documents[i + 1]]
    for pair in pairs:
        assert 0 <= pair.second < len(documents)
        assert pair.follows == (pair.second == pair.first + 1)
        assert pair.second != pair.first
    assert pairs == sentence_pairs(documents, seed, epoch)


def test_half_of_the_pairs_follow() -> None:
    pairs = sentence_pairs(np.zeros(4000, dtype=np.intp), 1, 0)
    assert np.mean([p.follows for p in pairs]) == pytest.approx(0.5, abs=0.03)
    assert sentence_pairs(np.zeros(4000, dtype=np.intp), 1, 1) != pairs
