"""Attention in blocks is attention with a window's mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_model.attention import attend, dot_product, window_mask
from dragoman_model.window import attend_in_window


@settings(deadline=None, max_examples=60)
@given(
    time=st.integers(1, 17),
    before=st.integers(0, 20),
    after=st.integers(0, 20),
    rows=st.sampled_from([(), (2,), (2, 3)]),
)
def test_blocks_give_what_the_mask_gives(time: int, before: int, after: int, rows: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(time)
    queries, keys = (torch.randn(*rows, time, 4, generator=generator) for _ in range(2))
    values = torch.randn(*rows, time, 3, generator=generator)
    expected = attend(queries, keys, values, mask=window_mask(time, before, after))[0]
    torch.testing.assert_close(attend_in_window(queries, keys, values, before=before, after=after), expected)


def test_a_window_has_its_similarity_and_its_gradient() -> None:
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(7, 4, requires_grad=True) for _ in range(3))
    near = attend_in_window(queries, keys, values, before=2, after=0, similarity=dot_product)
    masked = attend(queries, keys, values, mask=window_mask(7, 2, 0), similarity=dot_product)[0]
    for gradient, expected in zip(
        torch.autograd.grad(near.square().sum(), (queries, keys, values)),
        torch.autograd.grad(masked.square().sum(), (queries, keys, values)),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected)


def test_a_negative_side_is_refused() -> None:
    with pytest.raises(ValueError, match="before = -1, after = 0"):
        attend_in_window(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2), before=-1, after=0)
