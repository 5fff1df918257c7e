"""What the samples of one run come to: throughput, goodput under objectives, latencies, faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dragoman.errors import InvalidArgument, Violation
from dragoman.load.answers import WRONG
from dragoman.load.percentiles import Summary
from dragoman.load.samples import Sample, Window

Mode = Literal["closed", "open"]
SHARE = 0.99
"""Of the requests: so many must keep the objectives, or the point does not."""


@dataclass(frozen=True, slots=True)
class Objectives:
    """How long a request may take, in milliseconds. None: as long as it wants."""

    latency_ms: float | None = None
    """Until the whole answer is there."""
    first_token_ms: float | None = None
    """Until a stream's first chunk is there."""
    token_ms: float | None = None
    """A stream's mean time of a token after that."""

    def __post_init__(self) -> None:
        options = {"p99": self.latency_ms, "ttft": self.first_token_ms, "tpot": self.token_ms}
        faults = [
            Violation(f"--objective-{name}-ms", f"{limit:g}", "more than 0")
            for name, limit in options.items()
            if limit is not None and not limit > 0
        ]
        if faults:
            raise InvalidArgument(faults)

    def kept(self, sample: Sample) -> bool:
        """Whether the answer was right and in time."""
        times = ((sample.latency, self.latency_ms), (sample.first_token, self.first_token_ms))
        pairs = (*times, (sample.token_time, self.token_ms))
        return sample.fault is None and all(
            limit is None or seconds is None or 1e3 * seconds <= limit for seconds, limit in pairs
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model of the server foretold of a point."""

    throughput: float
    utilisation: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Requests count by the moment at which they were due; rates are a second, times in milliseconds."""

    mode: Mode
    offered: float
    """Of a closed loop the users, of an open one arrivals a second."""
    seconds: float
    """That counted."""
    requests: int
    """That were due in that time."""
    throughput: float
    """Right answers that came in that time, a second."""
    tokens: float
    """Of these, a second: produced, or read by a model that only reads."""
    goodput: float
    """Requests with a right answer that kept the objectives, a second."""
    kept: float
    """The same as a share of the requests: 0 to 1; 1 where there were none."""
    faults: Mapping[str, int]
    """By kind: how many of the requests have failed."""
    compared: int
    """Answers in the whole run, its warm-up too."""
    wrong: int
    """Of these, not the ones that their requests have alone."""
    latency: Summary | None
    """Of the right answers, as all that follow; None where there were none."""
    first_token: Summary | None
    token_time: Summary | None
    gap: Summary | None
    """Between one chunk of a stream and the next (inter-token latency)."""
    late: Summary | None
    """From the moment at which a request was due until the generator sent it."""
    kinds: Mapping[str, Summary]
    """Latency of each kind of request."""
    processors: Mapping[str, float] = field(default_factory=dict)
    """Processors that "generator" and, where it is known, "server" kept busy."""
    forecast: Forecast | None = None

    @property
    def load(self) -> str:
        """What was offered, for people."""
        return shown_load(self.mode, self.offered)

    @property
    def failed(self) -> int:
        """Requests without a right answer."""
        return sum(self.faults.values())

    @property
    def holds(self) -> bool:
        """Whether ``SHARE`` of the requests kept the objectives."""
        return self.kept >= SHARE


def shown_load(mode: Mode, offered: float) -> str:
    """A load for people: "4 users" or "12.5/s"."""
    return f"{offered:.1f}/s" if mode == "open" else f"{offered:g} user{'' if offered == 1 else 's'}"


def measure(
    samples: Iterable[Sample],
    window: Window,
    objectives: Objectives,
    *,
    mode: Mode,
    offered: float,
    processors: Mapping[str, float],
) -> Measurement:
    """All of it, without the warm-up."""
    taken = list(samples)
    counted = [sample for sample in taken if window.holds(sample.due)]
    right = [sample for sample in counted if sample.fault is None]
    came = [sample for sample in taken if sample.fault is None and window.holds(sample.ended)]
    good = sum(map(objectives.kept, counted))
    return Measurement(
        mode=mode,
        offered=offered,
        seconds=window.duration,
        requests=len(counted),
        throughput=len(came) / window.duration,
        tokens=sum(sample.tokens for sample in came) / window.duration,
        goodput=good / window.duration,
        kept=good / len(counted) if counted else 1.0,
        faults=dict(sorted(Counter(sample.fault for sample in counted if sample.fault is not None).items())),
        compared=sum(sample.fault in {None, WRONG} for sample in taken),
        wrong=sum(sample.fault == WRONG for sample in taken),
        latency=Summary.of(sample.latency for sample in right),
        first_token=Summary.of(_known(sample.first_token for sample in right)),
        token_time=Summary.of(_known(sample.token_time for sample in right)),
        gap=Summary.of(gap for sample in right for gap in sample.gaps),
        late=Summary.of(sample.sent - sample.due for sample in counted),
        kinds=_by_kind(right),
        processors=processors,
    )


def _by_kind(samples: Sequence[Sample]) -> dict[str, Summary]:
    found = {
        kind: Summary.of(sample.latency for sample in samples if sample.kind == kind)
        for kind in sorted({sample.kind for sample in samples})
    }
    return {kind: summary for kind, summary in found.items() if summary is not None}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
