"""Masked language modelling: which tokens are hidden, and behind what (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HIDDEN, RANDOM = 0.8, 0.1
"""Of the chosen tokens: the share that [MASK] stands for, and that a random token does; the others stay."""


@dataclass(frozen=True)
class Masking:
    """What masking needs to know of a vocabulary: ids 0 to ``specials`` - 1 are special tokens and never chosen."""

    mask_id: int
    specials: int
    vocabulary: int
    share: float = 0.15


def mask_tokens(ids: Tensor, masking: Masking, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The ids as the model sees them and where it must say what stood there (bool), both in the shape of ``ids``.

    Each token that is not special is chosen by itself with probability ``share``; of the chosen, 80% become [MASK], 10%
    a random token that is not special, and 10% stay, so that every state must know its token.
    """
    choice, fate = (torch.rand(ids.shape, generator=generator) for _ in range(2))
    replacement = torch.randint(masking.specials, masking.vocabulary, ids.shape, generator=generator)
    chosen = (ids >= masking.specials) & (choice < masking.share)
    seen = torch.where(chosen & (fate < HIDDEN), masking.mask_id, ids)
    return torch.where(chosen & (fate >= 1.0 - RANDOM), replacement, seen), chosen
