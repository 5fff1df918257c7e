"""Reading a stream of answers: what every kind of stream has in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol[S_contra, T_co]):
    """Messages of one call made into chunks; the last is complete when the call has ended."""

    @property
    def begun(self) -> bool:
        """Whether a message has come."""

    def read(self, message: S_contra) -> T_co | None:
        """The chunk, or None for the last, which waits for ``last``."""

    def last(self, trailing: Iterable[tuple[str, str | bytes]]) -> T_co:
        """The last chunk; raises InternalError where the stream has ended without."""
