"""What an encoder says of texts, by PyTorch or by the runtime that serves: the same inputs, the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dragoman_model.text_encoder import TextEncoder
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput

ROWS = 64
Passes = Callable[[Sequence[EncoderInput]], list[EncoderOutput]]
"""One pass over at most ``ROWS`` texts."""
Advance = Callable[[int], None]
"""Called with a number of texts that are done."""


def by_pytorch(model: TextEncoder) -> Passes:
    """The model itself, on padded batches."""

    @torch.no_grad()
    def run(inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        lengths = torch.tensor([len(text.ids) for text in inputs])
        shape = len(inputs), int(lengths.max())
        ids, segments = torch.full(shape, model.config.pad_id), torch.zeros(shape, dtype=torch.int64)
        for row, text in enumerate(inputs):
            ids[row, : len(text.ids)] = torch.tensor(list(text.ids))
            if text.segments is not None:
                segments[row, : len(text.ids)] = torch.tensor(list(text.segments))
        states = model.states(ids, lengths, None if model.segment_embedding is None else segments)
        labels = None if model.classifier is None else model.label_logits(states[:, 0]).numpy()
        return [
            EncoderOutput(
                states[row, : len(text.ids)].numpy(),
                None if labels is None else labels[row],
                None if model.tagger is None else model.tag_logits(states[row, : len(text.ids)]).numpy(),
                None if model.mask_head is None else model.mask_logits(states[row, list(text.mask_positions)]).numpy(),
            )
            for row, text in enumerate(inputs)
        ]

    return run


def run_all(
    passes: Passes, inputs: Sequence[EncoderInput], *, advance: Advance = lambda count: None
) -> list[EncoderOutput]:
    """All texts, in batches of like length; the outputs are in the order of the inputs."""
    order = sorted(range(len(inputs)), key=lambda number: len(inputs[number].ids))
    found: dict[int, EncoderOutput] = {}
    for begin in range(0, len(order), ROWS):
        batch = order[begin : begin + ROWS]
        found |= zip(batch, passes([inputs[number] for number in batch]), strict=True)
        advance(len(batch))
    return [found[number] for number in range(len(inputs))]


def largest_difference(expected: Sequence[EncoderOutput], found: Sequence[EncoderOutput]) -> float:
    """Of any state or logit. A NaN outranks every number."""
    largest = 0.0
    for one, two in zip(expected, found, strict=True):
        for a, b in zip(one, two, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None and a.size:
                largest = float(np.max([largest, np.abs(_wide(a) - _wide(b)).max()]))
    return largest


def _wide(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return values.astype(np.float64)
