"""Texts as an encoder reads them, and batches of them with whatever there is to learn: labels, tags, hidden tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from dragoman_model.batching import pad
from dragoman_model.config import EncoderConfig
from dragoman_model.masking import Masking, mask_tokens


@dataclass(frozen=True)
class EncoderText:
    """Ids from [CLS] to the last [SEP], and each one's segment where the model tells segments apart."""

    ids: Sequence[int]
    segments: Sequence[int] | None = None


def make_text(
    config: EncoderConfig, first: Sequence[int], second: Sequence[int] | None = None, *, most: int
) -> EncoderText:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP] with segments 0 and 1, cut to at most ``most`` ids.

    What is cut is the end of the longer text. ValueError for a pair if the model knows no segments.
    """
    if second is None:
        ids = [config.cls_id, *first[: most - 2], config.sep_id]
        return EncoderText(ids, [0] * len(ids) if config.segments else None)
    if config.segments < 2:
        raise ValueError(f"a pair of texts needs segments = 2, and the model has {config.segments}")
    room = most - 3
    # Either text may use half of the room, and whatever the other leaves.
    head = first[: max(room - len(second), room - room // 2)]
    tail = second[: room - len(head)]
    return EncoderText(
        [config.cls_id, *head, config.sep_id, *tail, config.sep_id], [0] * (len(head) + 2) + [1] * (len(tail) + 1)
    )


@dataclass(frozen=True)
class EncoderBatch:
    """Padded texts and targets; positions count through the flattened (batch, time)."""

    ids: Tensor
    """(batch, time), as the model sees them."""
    lengths: Tensor | None
    """(batch,), or None when no text is padded."""
    segments: Tensor | None
    """(batch, time), of a model that tells segments apart."""
    tokens: int = 0
    """Targets of what is learnt first: texts with a label, words with a tag, or hidden tokens."""
    labels: Tensor | None = None
    """(batch, labels): probabilities, or yes and no where each label is true by itself."""
    tag_positions: Tensor | None = None
    tags: Tensor | None = None
    """(words,)."""
    mask_positions: Tensor | None = None
    hidden: Tensor | None = None
    """(masks,): the tokens that stood there."""
    follows: Tensor | None = None
    """(batch,): 1 if the second text follows the first, 0 if not, -1 if there is no second."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def collate_texts(texts: Sequence[EncoderText], config: EncoderConfig) -> EncoderBatch:
    """Texts without targets."""
    lengths = torch.tensor([len(text.ids) for text in texts])
    ids = pad([text.ids for text in texts], config.pad_id)
    known = [text.segments for text in texts if text.segments is not None]
    assert len(known) in {0, len(texts)}
    segments = pad(known, 0) if known else None
    return EncoderBatch(ids, lengths if int(lengths.min()) < ids.shape[1] else None, segments)


def hide(batch: EncoderBatch, masking: Masking, generator: torch.Generator | None = None) -> EncoderBatch:
    """The batch with some of its tokens hidden, to be predicted."""
    seen, chosen = mask_tokens(batch.ids, masking, generator)
    positions = chosen.flatten().nonzero().squeeze(-1)
    return replace(batch, ids=seen, mask_positions=positions, hidden=batch.ids.flatten()[positions])
