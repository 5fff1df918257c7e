"""Batches: all examples, once each, within the budget, in an order that seed and epoch alone decide."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_model.batching import Example, TokenBatches, collate

lengths = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=60)


def examples_of(sizes: list[tuple[int, int]]) -> list[Example]:
    return [Example([5] * source, [6] * target) for source, target in sizes]


@settings(deadline=None)
@given(sizes=lengths, budget=st.integers(12, 80), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_example_is_in_exactly_one_batch_of_bounded_cost(
    sizes: list[tuple[int, int]], budget: int, seed: int, epoch: int
) -> None:
    batches = TokenBatches(examples_of(sizes), batch_tokens=budget, seed=seed)
    order = batches.order(epoch)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(sizes)))
    for indices in order:
        widest = max(max(sizes[i]) for i in indices)
        assert len(indices) * widest <= budget or len(indices) == 1
    again = TokenBatches(examples_of(sizes), batch_tokens=budget, seed=seed).order(epoch)
    assert [b.tolist() for b in order] == [b.tolist() for b in again]


def test_another_epoch_and_another_seed_give_another_order() -> None:
    sizes = [(1 + i % 7, 1 + i % 5) for i in range(200)]
    first = TokenBatches(examples_of(sizes), batch_tokens=40, seed=1)
    flat = [np.concatenate(o).tolist() for o in (first.order(0), first.order(1))]
    flat.append(np.concatenate(TokenBatches(examples_of(sizes), batch_tokens=40, seed=2).order(0)).tolist())
    assert len({tuple(x) for x in flat}) == 3


def test_equal_lengths_are_batched_together() -> None:
    sizes = [(4, 4)] * 20 + [(9, 9)] * 20
    order = TokenBatches(examples_of(sizes), batch_tokens=36, seed=0).order(0)
    mixed = [b for b in order if len({sizes[i] for i in b}) > 1]
    assert len(mixed) <= 1


def test_collate_shifts_the_target_and_pads_on_the_right() -> None:
    batch = collate([Example([4, 7, 3], [8, 9, 3]), Example([4, 3], [10, 3])], pad_id=0, bos_id=2)
    assert batch.source.tolist() == [[4, 7, 3], [4, 3, 0]]
    assert batch.source_lengths is not None
    assert batch.source_lengths.tolist() == [3, 2]
    assert batch.target_in.tolist() == [[2, 8, 9], [2, 10, 3]]
    assert batch.target_out.tolist() == [[8, 9, 3], [10, 3, 0]]
    assert batch.tokens == 5


def test_sources_of_one_length_need_no_mask() -> None:
    assert collate([Example([4, 3], [3]), Example([5, 3], [8, 3])], pad_id=0, bos_id=2).source_lengths is None
