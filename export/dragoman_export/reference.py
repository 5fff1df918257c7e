"""PyTorch's side of every comparison: its translations, its logits along them, and where they were close to a tie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dragoman_model.batching import pad
from dragoman_model.search import translate_ids
from dragoman_model.transformer import Transformer

_CHUNK = 256


def translate(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    *,
    max_length: int,
    beam_size: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[int]]:
    """Target ids of every source, end-of-sentence left out; equal lengths are decoded together."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    results: list[list[int]] = [[] for _ in sources]
    for begin in range(0, len(order), _CHUNK):
        chosen = order[begin : begin + _CHUNK]
        found = translate_ids(model, [sources[i] for i in chosen], beam_size=beam_size, max_length=max_length)
        for index, ids in zip(chosen, found, strict=True):
            results[index] = ids
        advance(len(chosen))
    return results


def fed_part(target: Sequence[int], max_length: int) -> list[int]:
    """The target tokens that are fed back while decoding: the last of a target that was cut is not."""
    return list(target[: max_length - 1])


@torch.no_grad()
def forced_logits(
    model: Transformer, sources: Sequence[Sequence[int]], fed: Sequence[Sequence[int]]
) -> npt.NDArray[np.float32]:
    """(batch, longest fed + 1, vocabulary): logits after bos and each token fed; uncached, by one forward pass."""
    config = model.config
    lengths = torch.tensor([len(source) for source in sources])
    target = pad([[config.bos_id, *ids] for ids in fed], config.pad_id)
    states = model(pad(sources, config.pad_id), lengths, target)
    logits: npt.NDArray[np.float32] = model.logits(states).numpy()
    return logits


@dataclass(frozen=True)
class Candidates:
    """PyTorch's best next tokens at one step."""

    ids: list[int]
    logits: list[float]
    log_sum_exp: float


def best_candidates(logits: npt.NDArray[np.float32], count: int) -> Iterator[Candidates]:
    """For logits (steps, vocabulary), the ``count`` best of every step, best first."""
    for row in logits:
        order = np.argsort(-row, kind="stable")[:count]
        exact = row.astype(np.float64)
        largest = exact.max()
        yield Candidates(order.tolist(), row[order].tolist(), float(largest + np.log(np.exp(exact - largest).sum())))
