"""What comes to a server: how long the requests are, and where their callers run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.planning.profile import Family, Length, Profile

MOST_TOKENS = 1_000_000


@dataclass(frozen=True)
class Workload:
    """``lengths`` are drawn from, each as likely as the other."""

    lengths: Sequence[Length]
    caller: float = 0.0
    """Processor seconds of a call for a caller on the server's own machine; 0: callers are elsewhere."""

    def __post_init__(self) -> None:
        if not self.lengths:
            raise InvalidArgument([Violation("lengths", "[]", "at least one")])
        bad = next((length for length in self.lengths if min(length) < 1 or max(length) > MOST_TOKENS), None)
        if bad is not None:
            raise InvalidArgument([Violation("lengths", str(tuple(bad)), f"1 to {MOST_TOKENS} tokens and steps")])

    @classmethod
    def measured(cls, profile: Profile, *, local: bool = False) -> Workload:
        """The texts that were measured with; ``local``: from callers on the server's own machine."""
        return cls(profile.lengths, profile.caller if local else 0.0)

    @property
    def mean_source(self) -> float:
        """Tokens."""
        return sum(length.source for length in self.lengths) / len(self.lengths)

    @property
    def mean_steps(self) -> float:
        """Decoding steps."""
        return sum(length.steps for length in self.lengths) / len(self.lengths)

    def scaled(self, mean_source: float, family: Family) -> Workload:
        """The same spread of source lengths with another mean; the steps of a translation grow with them."""
        share = mean_source / self.mean_source
        grown = share if family == "translation" else 1.0
        lengths = [
            Length(max(1, round(length.source * share)), max(1, round(length.steps * grown))) for length in self.lengths
        ]
        return Workload(lengths, self.caller)

    @classmethod
    def of_sources(cls, profile: Profile, sources: Sequence[int]) -> Workload:
        """Of texts with so many tokens each; steps as the measured ones had."""
        known = cls.measured(profile)
        each = known.mean_steps / known.mean_source
        if profile.family == "translation":
            return cls([Length(source, max(1, round(source * each))) for source in sources])
        return cls([Length(source, max(1, round(known.mean_steps))) for source in sources])
