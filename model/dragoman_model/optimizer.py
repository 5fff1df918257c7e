"""AdamW, or Muon for the matrices inside the layers with AdamW for the rest."""

from __future__ import annotations

import torch
from torch import nn

from dragoman_model.recipe import TrainingSection


def make_optimizers(model: nn.Module, training: TrainingSection) -> list[torch.optim.Optimizer]:
    """One or two optimizers whose groups carry their peak rate as ``peak_lr``.

    Muon (Jordan et al. 2024) orthogonalises the momentum of each matrix by Newton-Schulz iterations; embeddings,
    norms and biases stay with AdamW, as its authors advise. Its step is scaled to AdamW's (Liu et al. 2025,
    arXiv:2502.16982), so that rates of both are of one kind.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.dim() == 2 and "embedding" not in name and "positions" not in name]
    optimizers: list[torch.optim.Optimizer] = []
    if training.optimizer == "muon":
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=training.muon_learning_rate,
                weight_decay=training.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    else:
        rest = [p for _, p in named]
    decayed = [p for p in rest if p.dim() > 1]
    plain = [p for p in rest if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers.append(torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, eps=1e-9, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to ``factor`` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
