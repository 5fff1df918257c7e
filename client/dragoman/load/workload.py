"""Workloads: which requests come, in which shares, and how that changes over a day. All drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from dragoman.errors import InvalidArgument, Violation
from dragoman.load import texts
from dragoman.load.queries import TASKS, Query, classification, continuation, translation
from dragoman.values import Model


@dataclass(frozen=True, slots=True)
class Hour:
    """What comes at one time of the day; between two hours everything changes evenly."""

    phase: float
    """The time, as a share of the day: 0 up to 1."""
    intensity: float
    """Arrivals, relative to their mean over the day."""
    shares: Mapping[str, float]
    """How often each kind comes, relative to the others."""


DAY = (
    # At night documents are translated in bulk, in the morning people come, in the afternoon they write with it.
    Hour(0.00, 0.4, {"short": 1, "mixed": 2, "document": 4, "stream": 1, "generate": 1, "classify": 1}),
    Hour(0.25, 1.2, {"short": 8, "mixed": 4, "document": 0.5, "stream": 3, "generate": 1, "classify": 8}),
    Hour(0.50, 1.6, {"short": 6, "mixed": 6, "document": 0.5, "stream": 6, "generate": 2, "classify": 6}),
    Hour(0.75, 0.8, {"short": 3, "mixed": 3, "document": 1, "stream": 4, "generate": 4, "classify": 3}),
)
"""The mean intensity is 1."""
KINDS: Mapping[str, str] = {
    "short": "sentences of 3 to 8 words, translated",
    "mixed": "sentences of 1 to 40 words, translated",
    "document": "documents of 6 to 14 sentences, translated",
    "stream": "sentences of 4 to 25 words, translated as a stream",
    "generate": "prompts, continued by at most 20 to 80 tokens, every other one sampled",
    "classify": "requests to an assistant, labelled",
}
WORKLOADS: Mapping[str, str] = {**KINDS, "day": "all of these, in shares and at a rate that change over the run"}
_LARGE = {"document", "generate"}
"""Kinds of which each request is long work: fewer different ones will do."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one or several kinds, and how often each comes."""

    name: str
    pools: Mapping[str, Sequence[Query]]
    """The different requests of each kind; none is empty."""
    hours: Sequence[Hour]
    """By phase, ascending; the last goes over into the first."""

    def queries(self) -> list[Query]:
        """All different requests."""
        return list(dict.fromkeys(query for pool in self.pools.values() for query in pool))

    def draw(self, random: Random, phase: float) -> Query:
        """The next request at this time of the day, 0 up to 1."""
        shares = self.shares(phase)
        (kind,) = random.choices(list(shares), list(shares.values()))
        return random.choice(self.pools[kind])

    def shares(self, phase: float) -> dict[str, float]:
        """How often each kind comes at this time, relative to the others."""
        before, after, way = self._between(phase)
        return {kind: share + way * (after.shares[kind] - share) for kind, share in before.shares.items()}

    def intensity(self, phase: float) -> float:
        """Arrivals at this time, relative to their mean over the day."""
        before, after, way = self._between(phase)
        return before.intensity + way * (after.intensity - before.intensity)

    @property
    def peak(self) -> float:
        """The largest intensity."""
        return max(hour.intensity for hour in self.hours)

    def _between(self, phase: float) -> tuple[Hour, Hour, float]:
        """The hours before and after, and how far it is from one to the other: 0 up to 1."""
        place = max((i for i, hour in enumerate(self.hours) if hour.phase <= phase), default=len(self.hours) - 1)
        before, after = self.hours[place], self.hours[(place + 1) % len(self.hours)]
        span = (after.phase - before.phase) % 1.0 or 1.0
        return before, after, ((phase - before.phase) % 1.0) / span


def check_name(name: str) -> None:
    """Raises InvalidArgument for a workload that there is not."""
    if name not in WORKLOADS:
        raise InvalidArgument([Violation("--workload", repr(name), ", ".join(WORKLOADS))])


def workload(
    name: str, models: Sequence[Model], *, seed: int, size: int, target: str | None = None, lines: Sequence[str] = ()
) -> Workload:
    """The workload ``name`` for a server with these models: ``size`` different requests of each kind, of long ones a
    third.

    ``target`` None: the first language of the default translator that is not English; ``lines``: texts in place of our
    own. Raises InvalidArgument for an unknown name, and for a kind that no model can answer.
    """
    check_name(name)
    kinds = list(KINDS) if name == "day" else [name]
    found = target or _target(models)
    random = Random(seed)
    pools = {
        kind: tuple(_query(kind, random, found, lines) for _ in range(max(1, size // 3) if kind in _LARGE else size))
        for kind in kinds
    }
    needed = {TASKS[query.call] for pool in pools.values() for query in pool}
    missing = sorted(needed - {task for model in models if model.state == "ready" for task in model.tasks})
    if missing:
        raise InvalidArgument(
            [Violation("--workload", name, f"the server has no model that can: {', '.join(missing)}")]
        )
    return Workload(name, pools, DAY if name == "day" else (Hour(0.0, 1.0, {name: 1.0}),))


def _query(kind: str, random: Random, target: str, lines: Sequence[str]) -> Query:
    def text(write: Callable[[], str]) -> str:
        return random.choice(lines) if lines else write()

    match kind:
        case "short":
            return translation(kind, text(lambda: texts.sentence(random, random.randint(3, 8))), target)
        case "mixed":
            # Short ones are more frequent, as in what people send: the logarithm of the length is uniform.
            return translation(kind, text(lambda: texts.sentence(random, round(40 ** random.random()))), target)
        case "document":
            return translation(kind, text(lambda: texts.document(random, random.randint(6, 14))), target)
        case "stream":
            return translation(kind, text(lambda: texts.sentence(random, random.randint(4, 25))), target, stream=True)
        case "generate":
            seed = random.choice([None, random.randrange(1 << 32)])
            return continuation(
                kind, text(lambda: texts.sentence(random, random.randint(3, 12))), random.randint(20, 80), seed
            )
        case _:
            return classification(kind, text(lambda: texts.request(random)))


def _target(models: Sequence[Model]) -> str:
    translators = sorted((m for m in models if "translate" in m.tasks), key=lambda m: (not m.default, m.name))
    return next((language for m in translators for language in m.languages if language != "en"), "de")
