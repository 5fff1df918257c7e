"""Cross-entropy with label smoothing, without ever holding the logits of a whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 512
"""Rows of logits held at once: 512 x 8,000 floats stay in a last-level cache."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, smoothing: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        # The gradient is made together with the loss, chunk by chunk, while the logits are still in the cache.
        # It is p - (1 - s) [y] - s / V; its last, constant part needs no pass over the logits.
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        mean_weight = weight.float().mean(dim=0)
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        log_likelihood = torch.zeros((), dtype=torch.float32, device=states.device)
        for begin in range(0, states.shape[0], chunk):
            part = states[begin : begin + chunk]
            wanted = targets[begin : begin + chunk, None]
            logits = part @ weight.T
            wanted_logit = logits.gather(-1, wanted).float()
            probability = logits.softmax(dim=-1, dtype=torch.float32)
            picked = probability.gather(-1, wanted).clamp_min(1e-37).log()
            mean_log = part.float() @ mean_weight[:, None] - (wanted_logit - picked)
            loss -= ((1.0 - smoothing) * picked + smoothing * mean_log).sum()
            log_likelihood += picked.sum()
            probability.scatter_add_(-1, wanted, torch.full_like(picked, smoothing - 1.0))
            grad = probability.to(part.dtype)
            grad_states[begin : begin + chunk] = grad @ weight - (smoothing * mean_weight).to(part.dtype)
            grad_weight += grad.T @ part
        grad_weight -= states.float().sum(dim=0) * (smoothing / weight.shape[0])
        ctx.save_for_backward(grad_states, grad_weight)
        ctx.mark_non_differentiable(log_likelihood)
        return loss, log_likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad_states, grad_weight = ctx.saved_tensors
        return grad_states * grads[0].to(grad_states.dtype), grad_weight * grads[0], None, None, None


def smoothed_cross_entropy(
    states: Tensor, weight: Tensor, targets: Tensor, *, smoothing: float, chunk: int = _CHUNK
) -> tuple[Tensor, Tensor]:
    """Summed label-smoothed loss (Szegedy et al. 2016, section 7) and summed log-likelihood, in nats.

    ``states`` (tokens, d_model), ``weight`` (vocabulary, d_model) of the output projection, ``targets`` (tokens,).
    Only the loss carries a gradient. Under autocast the products run in its type, the sums in float32.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    with torch.autocast(device, enabled=False):
        loss, log_likelihood = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            states.to(dtype), weight.to(dtype), targets, smoothing, chunk
        )
    return loss, log_likelihood
