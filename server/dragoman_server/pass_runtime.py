"""Runs an encoder-only model: one pass over the packed tokens of many texts, and what each of its heads says."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.compiled_kernels import takes_heads
from dragoman_server.device import CPU, Device
from dragoman_server.packing import pack
from dragoman_server.sessions import Sessions

Floats = npt.NDArray[np.float32]


class EncoderInput(NamedTuple):
    """One text, or one pair of texts."""

    ids: Sequence[int]
    """Special tokens included: [CLS] text [SEP], or [CLS] text [SEP] text [SEP]."""
    segments: Sequence[int] | None = None
    """Of each token; None: all of the first segment."""
    mask_positions: Sequence[int] = ()
    """Tokens whose place in the text is to be filled, counted from 0."""


class EncoderOutput(NamedTuple):
    """What a pass says of one text; None where the model has no such head."""

    states: Floats  # (tokens, d_model)
    label_logits: Floats | None = None  # (labels,)
    tag_logits: Floats | None = None  # (tokens, tags)
    mask_logits: Floats | None = None  # (masks, vocabulary)


class PassRuntime(Protocol):
    """One lane's encoder. Used by one thread at a time."""

    @property
    def max_rows(self) -> int:
        """Most texts of a pass."""

    @property
    def source_capacity(self) -> int:
        """Longest text, in tokens."""

    def warm_up(self) -> None:
        """Do everything that is slow the first time."""

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """One pass over all texts together; ValueError for what the model does not take."""


def packed_feeds(inputs: Sequence[EncoderInput], names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """What a graph with inputs of these ``names`` is fed: the texts' tokens side by side; none is empty.

    ``first_index`` names each text's first token, ``mask_index`` those whose places are to be filled.
    """
    packed = pack([text.ids for text in inputs])
    masks = [np.array(text.mask_positions, np.int64) for text in inputs]
    segments = [np.array([0] * len(text.ids) if text.segments is None else text.segments) for text in inputs]
    feeds = packed.feeds | {
        "first_index": packed.begins,
        "segments": np.concatenate(segments).astype(np.int64),
        "mask_index": np.concatenate([mask + begin for mask, begin in zip(masks, packed.begins, strict=True)]),
    }
    return {name: value for name, value in feeds.items() if name in names}


class OnnxPassRuntime:
    """One onnxruntime session on a device. The tokens of a pass lie side by side, so no padding is computed.

    ``kernels`` is a library of compiled operators, for the processor alone; None: onnxruntime's own.
    ``sessions`` makes the session; None: it is not shared with other runtimes.
    """

    def __init__(
        self,
        encoder: Path,
        *,
        dimensions: Dimensions,
        limits: Limits,
        max_rows: int,
        device: Device = CPU,
        kernels: Path | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows = {max_rows}: at least 1")
        kernels = kernels if takes_heads(dimensions.head_dim) else None
        self._session = (sessions or Sessions()).of(encoder, device, kernels=kernels)
        self._inputs: list[str] = [port.name for port in self._session.get_inputs()]
        self._outputs: list[str] = [port.name for port in self._session.get_outputs()]
        self._max_rows, self._source_capacity = max_rows, limits.source_tokens
        self._segments = dimensions.segments

    @property
    def max_rows(self) -> int:
        """Most texts of a pass."""
        return self._max_rows

    @property
    def source_capacity(self) -> int:
        """Longest text, in tokens."""
        return self._source_capacity

    @property
    def provider(self) -> str:
        """onnxruntime's execution provider."""
        name: str = self._session.get_providers()[0]
        return name

    def warm_up(self) -> None:
        """Run a short pass and a long one."""
        masked = (0,) if self._fills_masks else ()
        for length in {min(8, self.source_capacity), self.source_capacity}:
            self.run([EncoderInput([0] * length, mask_positions=masked)])

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """One pass over all texts together: the neighbours cannot change a result.

        ValueError names every fault: the number of texts, lengths, segments, and places of masks.
        """
        faults = list(self._faults(inputs))
        if faults:
            raise ValueError("; ".join(faults))
        values = self._session.run(self._outputs, packed_feeds(inputs, self._inputs))
        found: dict[str, Floats] = dict(zip(self._outputs, values, strict=True))
        ends = np.cumsum([len(text.ids) for text in inputs])
        masks = np.cumsum([len(text.mask_positions) for text in inputs])
        return [
            EncoderOutput(
                found["states"][end - len(text.ids) : end],
                _part(found.get("label_logits"), number),
                _part(found.get("tag_logits"), slice(end - len(text.ids), end)),
                _part(found.get("mask_logits"), slice(masks_end - len(text.mask_positions), masks_end)),
            )
            for number, (text, end, masks_end) in enumerate(zip(inputs, ends.tolist(), masks.tolist(), strict=True))
        ]

    @property
    def _fills_masks(self) -> bool:
        return "mask_logits" in self._outputs

    def _faults(self, inputs: Sequence[EncoderInput]) -> Iterator[str]:
        if not 1 <= len(inputs) <= self._max_rows:
            yield f"{len(inputs)} texts: 1 to {self._max_rows}"
        for index, (ids, segments, masks) in enumerate(inputs):
            if not 1 <= len(ids) <= self._source_capacity:
                yield f"text {index} has {len(ids)} tokens: 1 to {self._source_capacity}"
            if segments is not None:
                known = max(1, self._segments)
                if len(segments) != len(ids) or not all(0 <= segment < known for segment in segments):
                    yield f"text {index}: segments = {list(segments)}: one for each token, 0 to {known - 1}"
            if masks and not self._fills_masks:
                yield f"text {index}: mask_positions = {list(masks)}: the model fills no masks"
            elif not all(0 <= place < len(ids) for place in masks):
                yield f"text {index}: mask_positions = {list(masks)}: each 0 to {len(ids) - 1}"


def _part(values: Floats | None, where: int | slice) -> Floats | None:
    return None if values is None else values[where]
