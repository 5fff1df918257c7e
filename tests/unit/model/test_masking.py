"""Masked tokens: the shares of Devlin et al. 2019, and never a special token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_model.masking import Masking, mask_tokens

MASKING = Masking(mask_id=4, specials=5, vocabulary=50)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(st.lists(st.integers(0, 49), min_size=7, max_size=7), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    share=st.floats(0.0, 1.0),
)
def test_special_tokens_are_never_chosen_and_what_is_not_chosen_stays(
    rows: list[list[int]], seed: int, share: float
) -> None:
    ids = torch.tensor(rows)
    masking = Masking(mask_id=4, specials=5, vocabulary=50, share=share)
    seen, chosen = mask_tokens(ids, masking, torch.Generator().manual_seed(seed))
    assert not chosen[ids < 5].any()
    assert torch.equal(seen[~chosen], ids[~chosen])
    replaced = seen[chosen]
    assert ((replaced == 4) | (replaced >= 5)).all()
    assert (replaced < 50).all()


def test_the_shares_are_those_of_the_paper() -> None:
    ids = torch.randint(5, 50, (400, 500), generator=torch.Generator().manual_seed(1))
    seen, chosen = mask_tokens(ids, MASKING, torch.Generator().manual_seed(2))
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.005)
    hidden = (seen == 4)[chosen].float().mean()
    kept = (seen == ids)[chosen].float().mean()
    # A random token is the old one in 1 of 45 draws.
    assert hidden == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / 45, abs=0.01)
    assert set(seen[chosen].tolist()) == {4, *range(5, 50)}


def test_the_generator_alone_decides() -> None:
    ids = torch.arange(5, 45).reshape(4, 10)
    first, second = (mask_tokens(ids, MASKING, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
