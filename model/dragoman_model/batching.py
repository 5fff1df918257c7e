"""Batches of about equal cost: sentences of like length together, as many as a budget of tokens allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Example:
    """A source (tag first, end-of-sentence last) and its target (end-of-sentence last)."""

    source: Sequence[int]
    target: Sequence[int]


@dataclass(frozen=True)
class Batch:
    """Padded on the right: source (batch, source), target_in and target_out (batch, target), shifted by one."""

    source: Tensor
    source_lengths: Tensor | None
    """(batch,), or None when no source is padded."""
    target_in: Tensor
    target_out: Tensor
    tokens: int
    """Targets that count, padding left out."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        lengths = None if self.source_lengths is None else self.source_lengths.to(device)
        return Batch(
            self.source.to(device), lengths, self.target_in.to(device), self.target_out.to(device), self.tokens
        )


def collate(examples: Sequence[Example], *, pad_id: int, bos_id: int) -> Batch:
    """Pad and shift: the decoder reads bos and the target without its last token, and must say the target."""
    source = pad([e.source for e in examples], pad_id)
    lengths = torch.tensor([len(e.source) for e in examples])
    target_out = pad([e.target for e in examples], pad_id)
    target_in = torch.cat([torch.full((len(examples), 1), bos_id), target_out[:, :-1]], dim=1)
    tokens = sum(len(e.target) for e in examples)
    padded = int(lengths.min()) < source.shape[1]
    return Batch(source, lengths if padded else None, target_in, target_out, tokens)


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """(rows, longest), padded on the right."""
    longest = max(map(len, rows))
    out = np.full((len(rows), longest), pad_id, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


class TokenBatches:
    """The order of batches in every epoch: a function of the seed and the epoch alone, so that a run can be resumed."""

    def __init__(self, examples: Sequence[Example], *, batch_tokens: int, seed: int) -> None:
        self.examples = examples
        self.batch_tokens = batch_tokens
        self.seed = seed
        self._source = np.array([len(e.source) for e in examples])
        self._target = np.array([len(e.target) for e in examples])

    def order(self, epoch: int) -> list[Indices]:
        """Indices of the examples of each batch, shuffled; each side at most ``batch_tokens``, padded."""
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.examples))
        # Equal lengths end up together, in random order among themselves: hardly anything is padded.
        ordered = shuffled[np.lexsort((self._source[shuffled], self._target[shuffled]))]
        batches = list(self._cut(ordered))
        return [batches[i] for i in rng.permutation(len(batches))]

    def in_order(self) -> list[Indices]:
        """The same without chance, for validation."""
        return list(self._cut(np.lexsort((self._source, self._target))))

    def _cut(self, ordered: Indices) -> Iterator[Indices]:
        begin, widest = 0, 0
        for end, index in enumerate(ordered):
            wider = max(widest, int(self._source[index]), int(self._target[index]))
            if end > begin and wider * (end - begin + 1) > self.batch_tokens:
                yield ordered[begin:end]
                begin, wider = end, max(int(self._source[index]), int(self._target[index]))
            widest = wider
        yield ordered[begin:]
