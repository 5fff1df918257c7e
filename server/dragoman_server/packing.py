"""Sources of many lengths as one row of tokens: padding is seen by self-attention alone, never by the linear maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class PackedSources(NamedTuple):
    """The encoder graph's inputs for a batch of sources, and where each source's tokens lie."""

    feeds: dict[str, npt.NDArray[Any]]
    """By the name of the input; ``encoder_signature`` gives the shapes."""
    begins: npt.NDArray[np.int64]
    """(batch,)."""
    lengths: npt.NDArray[np.int64]
    """(batch,)."""


_LEAST_GROUP = 12
"""Sources that are worth a run of their own: fewer cost more by the run than by padding."""


def similar_lengths(sources: Sequence[Sequence[int]]) -> list[list[int]]:
    """The sources' indices in groups of similar length, shortest first: within a group, little is padded."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    groups = max(1, len(order) // _LEAST_GROUP)
    return [part.tolist() for part in np.array_split(np.array(order), groups)]


def pack(sources: Sequence[Sequence[int]]) -> PackedSources:
    """Lay the ids of all sources side by side; none is empty.

    ``padded_index`` names the token for each place of the padded batch, ``packed_index`` the place of each token,
    ``last_index`` the last token of each source. Padding is the source's own first token: the mask hides it, but
    nothing times NaN is NaN, and that must not come from a neighbour.
    """
    lengths = np.array([len(source) for source in sources])
    ends = lengths.cumsum()
    begins = ends - lengths
    longest = int(lengths.max())
    positions = np.arange(ends[-1]) - np.repeat(begins, lengths)
    real = np.arange(longest) < lengths[:, None]
    return PackedSources(
        {
            "input_ids": np.fromiter(chain.from_iterable(sources), np.int64, int(ends[-1])),
            "positions": positions,
            "padded_index": begins[:, None] + np.where(real, np.arange(longest), 0),
            "attention_mask": real.astype(np.int32),
            "packed_index": np.repeat(np.arange(len(lengths)) * longest, lengths) + positions,
            "last_index": ends - 1,
        },
        begins,
        lengths,
    )
