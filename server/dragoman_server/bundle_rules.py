"""What differs from family to family in a bundle: the part that loading asks each family for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle


@dataclass(frozen=True)
class FamilyRules:
    """How a bundle of one family is checked."""

    tasks: frozenset[Bundle.Task.ValueType]
    """Those that a model of the family can have; a bundle has one at least."""
    roles: tuple[str, ...]
    """Fields of the message ``Graphs`` that name a graph of the family."""
    dimensions: tuple[str, ...]
    """Fields of the message ``Dimensions`` that are at least 1."""
    special_ids: tuple[str, ...]
    """Fields of the message ``SpecialIds`` that every model of the family has."""
    manifest_faults: Callable[[Bundle], Iterator[str]]
    """Values that do not fit the family, without a look at the other files."""
    graph_faults: Callable[[Mapping[str, Path], Bundle], list[str]]
    """What is wrong with the graphs (by role) of one precision, whose bytes are already trusted."""

    def special_names(self, manifest: Bundle) -> list[str]:
        """The special ids that the model has: the family's, and optional ones that its manifest names."""
        optional = [name for name in ("unk", "cls", "sep", "mask") if manifest.special_ids.HasField(name)]
        return [*self.special_ids, *(name for name in optional if name not in self.special_ids)]
