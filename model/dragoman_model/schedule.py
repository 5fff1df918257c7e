"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Literal

Decay = Literal["inverse_sqrt", "cosine", "cooldown"]


def learning_rate_factor(update: int, *, warmup: int, decay: Decay, max_updates: int, cooldown: int) -> float:
    """Share of the peak rate at ``update`` (from 0), after a linear warm-up.

    ``inverse_sqrt``: sqrt(warmup / update), Vaswani et al. 2017, 5.3. ``cosine``: half a cosine down to zero at
    ``max_updates``, Loshchilov and Hutter 2017. ``cooldown``: constant, then over the last ``cooldown`` updates
    1 - sqrt(share of the cooldown done), Haegele et al. 2024 (arXiv:2405.18392): its end can be set while it runs.
    """
    if update < warmup:
        return (update + 1) / warmup
    match decay:
        case "inverse_sqrt":
            return math.sqrt(max(warmup, 1) / (update + 1))
        case "cosine":
            done = (update - warmup) / max(1, max_updates - warmup)
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        case "cooldown":
            begin = max_updates - cooldown
            if update < begin:
                return 1.0
            return 1.0 - math.sqrt(min(1.0, (update - begin) / max(1, cooldown)))
