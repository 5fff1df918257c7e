"""Sources of many lengths as one row of tokens: padding is seen by self-attention alone, never by the linear maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
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
    lengths = list(map(len, sources))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups = max(1, len(order) // _LEAST_GROUP)
    size, larger = divmod(len(order), groups)  # so many have one more
    ends = [size * group + min(group, larger) for group in range(groups + 1)]
    return [order[begin:end] for begin, end in pairwise(ends)]


def pack(sources: Sequence[Sequence[int]]) -> PackedSources:
    """Lay the ids of all sources side by side; none is empty.

    ``padded_index`` names the token for each place of the padded batch, ``packed_index`` the place of each token,
    ``last_index`` the last token of each source. Padding is the source's own first token: the mask hides it, but
    nothing times NaN is NaN, and that must not come from a neighbour.
    """
    if len(sources) == 1:
        return _alone(sources[0])
    lengths = np.array(list(map(len, sources)))
    ends = lengths.cumsum()
    begins = ends - lengths
    places = np.arange(int(lengths.max()))
    real = places < lengths[:, None]
    packed_index = real.reshape(-1).nonzero()[0]
    return PackedSources(
        {
            "input_ids": np.array(list(chain.from_iterable(sources)), np.int64),
            "positions": packed_index % len(places),
            "padded_index": begins[:, None] + real * places,
            "attention_mask": real.astype(np.int32),
            "packed_index": packed_index,
            "last_index": ends - 1,
        },
        begins,
        lengths,
    )


def _alone(source: Sequence[int]) -> PackedSources:
    """``pack`` of one source, which has no padding: who is alone should not wait for the arrays of many."""
    count = len(source)
    places = np.arange(count)
    feeds: dict[str, npt.NDArray[Any]] = {
        "input_ids": np.array(source, np.int64),
        "positions": places,
        "padded_index": places[None],
        "attention_mask": np.ones((1, count), np.int32),
        "packed_index": places,
        "last_index": places[-1:],
    }
    return PackedSources(feeds, np.zeros(1, np.int64), np.full(1, count))
