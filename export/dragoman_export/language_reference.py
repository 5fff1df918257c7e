"""PyTorch's side of a language model's comparisons: its greedy continuations, and its logits along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dragoman_model.generation import empty_cache, extend
from dragoman_model.language_model import LanguageModel

_ROWS = 64


@torch.no_grad()
def continue_greedily(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[int]]:
    """New ids of each prompt (bos first), eos left out; prompts of one length go side by side.

    As ``dragoman_model.generation.generate`` gives them one by one; prompts and what is new fit the model's window.
    """
    found: list[list[int]] = [[] for _ in prompts]
    for length in sorted({len(prompt) for prompt in prompts}):
        alike = [number for number, prompt in enumerate(prompts) if len(prompt) == length]
        for begin in range(0, len(alike), _ROWS):
            chosen = alike[begin : begin + _ROWS]
            for number, ids in zip(chosen, _continue(model, [prompts[i] for i in chosen], new_tokens), strict=True):
                found[number] = ids
            advance(len(chosen))
    return found


def _continue(model: LanguageModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    cache, eos = empty_cache(model, len(prompts)), model.config.eos_id
    fed, steps = torch.tensor(prompts), []
    for _ in range(new_tokens):
        fed = extend(model, fed, cache)[:, -1].argmax(dim=-1, keepdim=True)
        steps.append(fed[:, 0].numpy())
        if (np.array(steps) == eos).any(axis=0).all():
            break
    rows: list[list[int]] = np.array(steps).T.tolist()
    return [ids[: ids.index(eos)] if eos in ids else ids for ids in rows]


@torch.no_grad()
def forced_logits(model: LanguageModel, prompt: Sequence[int], fed: Sequence[int]) -> npt.NDArray[np.float32]:
    """(fed + 1, vocabulary): logits after the prompt and after each token fed; uncached, by one forward pass."""
    states = model.states(torch.tensor([[*prompt, *fed]]))[0, len(prompt) - 1 :]
    logits: npt.NDArray[np.float32] = model.logits(states).numpy()
    return logits
