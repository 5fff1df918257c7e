"""The chunked loss equals PyTorch's own, value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_model.loss import smoothed_cross_entropy


@settings(deadline=None, max_examples=30)
@given(tokens=st.integers(1, 40), chunk=st.integers(1, 50), smoothing=st.sampled_from([0.0, 0.1, 0.4]))
def test_value_and_gradients_equal_the_plain_formula(tokens: int, chunk: int, smoothing: float) -> None:
    torch.manual_seed(tokens)
    states = torch.randn(tokens, 6, dtype=torch.float32)
    weight = torch.randn(11, 6)
    targets = torch.randint(0, 11, (tokens,))

    def run(chunked: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        s, w = states.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            loss, _ = smoothed_cross_entropy(s, w, targets, smoothing=smoothing, chunk=chunk)
        else:
            loss = F.cross_entropy(s @ w.T, targets, label_smoothing=smoothing, reduction="sum")
        (3.0 * loss).backward()  # type: ignore[no-untyped-call]
        assert s.grad is not None
        assert w.grad is not None
        return loss.detach(), s.grad, w.grad

    for ours, plain in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-4, rtol=2e-4)


def test_log_likelihood_leaves_smoothing_out() -> None:
    torch.manual_seed(0)
    states, weight, targets = torch.randn(9, 4), torch.randn(7, 4), torch.randint(0, 7, (9,))
    _, log_likelihood = smoothed_cross_entropy(states, weight, targets, smoothing=0.3)
    expected = -F.cross_entropy(states @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(log_likelihood, expected)


def test_under_autocast_the_loss_stays_near_and_in_float32() -> None:
    torch.manual_seed(0)
    states, weight, targets = torch.randn(64, 16), torch.randn(50, 16), torch.randint(0, 50, (64,))
    exact, _ = smoothed_cross_entropy(states, weight, targets, smoothing=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = smoothed_cross_entropy(states, weight, targets, smoothing=0.1)
    assert rounded.dtype == torch.float32
    assert float(rounded) == pytest.approx(float(exact), rel=0.02)
