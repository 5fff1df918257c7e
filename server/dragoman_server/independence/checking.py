"""The proof itself: every case alone, then all under random loads, answers and encodings compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dragoman_server.engine import DecodingEngine, Engine
from dragoman_server.independence import traffic
from dragoman_server.independence.cases import KINDS, WIDEST, Case
from dragoman_server.independence.comparison import Comparison
from dragoman_server.independence.traffic import Answered, Decoding
from dragoman_server.progress import Stages
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.request import Completion
from dragoman_server.runtime import PromptRuntime, Runtime
from dragoman_server.submission import Receipt

ENCODER = "encoder"
_UNBOUNDED = 1 << 40
_FEW_ROWS = (WIDEST + 5, WIDEST, WIDEST + 15, WIDEST + 1)
"""Rows of the lanes in the second mix: of unequal size, and so few that wide requests wait for each other."""


@dataclass(frozen=True)
class Subject:
    """One precision of a model; ``engine`` makes one with lanes of so many rows each."""

    precision: str
    engine: Callable[[Sequence[int]], DecodingEngine]


def translating(precision: str, bos: int, eos: int, runtime: Callable[[int], Runtime]) -> Subject:
    """A model that translates; ``runtime`` makes a lane's runtime of so many rows."""

    def engine(rows: Sequence[int]) -> DecodingEngine:
        runtimes = [runtime(count) for count in rows]
        return Engine(runtimes, bos=bos, eos=eos, max_waiting=_UNBOUNDED, max_waiting_tokens=_UNBOUNDED)

    return Subject(precision, engine)


def continuing(precision: str, eos: int, runtime: Callable[[int], PromptRuntime]) -> Subject:
    """A model that continues prompts; ``runtime`` makes a lane's runtime of so many rows."""

    def engine(rows: Sequence[int]) -> DecodingEngine:
        runtimes = [runtime(count) for count in rows]
        return PromptEngine(runtimes, eos=eos, max_waiting=_UNBOUNDED, max_waiting_tokens=_UNBOUNDED)

    return Subject(precision, engine)


@dataclass(frozen=True)
class Result:
    """One line of the report: a precision, a kind, and on how many lanes."""

    precision: str
    kind: str
    lanes: int
    comparison: Comparison
    alone_per_second: float | None = None
    """Requests of this kind while alone."""
    together_per_second: float | None = None
    """Requests of this kind among all the others; the kinds' sum is the mix's rate."""
    mean_batch: float | None = None
    """Live rows at a step, averaged over the steps of this kind's requests."""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.comparison.holds(self.precision)


@dataclass(frozen=True)
class Company:
    """What became of the requests that do not count, in all mixes of a precision on that many lanes."""

    precision: str
    lanes: int
    outcomes: Counter[str]


def check(
    subject: Subject, cases: Sequence[Case], *, lanes: Sequence[int], max_rows: int, seed: int, stages: Stages
) -> tuple[list[Result], list[Company]]:
    """Compare every case alone with itself under two random mixes for each number of lanes.

    The first mix has ``max_rows`` rows a lane, the second few. Raises TrafficError where a request was not answered.
    """
    numbers = {kind: [number for number, case in enumerate(cases) if case.kind == kind] for kind in KINDS}
    with _running(subject, [max_rows]) as engine, stages.stage(f"{subject.precision}, alone", len(cases)) as advance:
        asker = Decoding(engine, cases)
        runs = {kind: traffic.alone(asker, numbers[kind], advance=advance) for kind in KINDS if numbers[kind]}
    expected = {answer.case: answer for run in runs.values() for answer in run.answered}
    results: list[Result] = []
    company: list[Company] = []
    for count in lanes:
        mixes = []
        few = [_FEW_ROWS[lane % len(_FEW_ROWS)] for lane in range(count)]
        for number, rows in enumerate(([max_rows] * count, few)):
            name = f"{subject.precision}, {count} lane(s) of {', '.join(map(str, rows))} rows"
            # Repeated requests make the total a little more than the cases.
            with _running(subject, rows) as engine, stages.stage(name, len(cases)) as advance:
                mixes.append(
                    traffic.together(Decoding(engine, cases), seed=seed * 1000 + count * 2 + number, advance=advance)
                )
        company.append(Company(subject.precision, count, sum((mix.others for mix in mixes), Counter())))
        answered = [answer for mix in mixes for answer in mix.answered]
        seconds = sum(mix.seconds for mix in mixes)
        for kind, run in runs.items():
            mine = [answer for answer in answered if cases[answer.case].kind == kind]
            results.append(
                Result(
                    precision=subject.precision,
                    kind=kind,
                    lanes=count,
                    comparison=_compare(mine, expected),
                    alone_per_second=len(run.answered) / run.seconds,
                    together_per_second=len(mine) / seconds,
                    mean_batch=mean_batch([answer.completion.receipt for answer in mine]),
                )
            )
    return results, company


@contextmanager
def _running(subject: Subject, rows: Sequence[int]) -> Iterator[DecodingEngine]:
    engine = subject.engine(rows)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(0.0)


def _compare(answered: Sequence[Answered[Completion]], expected: dict[int, Answered[Completion]]) -> Comparison:
    comparison = Comparison()
    for answer in answered:
        comparison.add(answer.case, expected[answer.case].completion.answers, answer.completion.answers)
        comparison.add_progress(answer.kept)
    return comparison


def mean_batch(receipts: Sequence[Receipt]) -> float:
    """Live rows at a step, averaged over the steps of the requests."""
    steps = sum(receipt.steps for receipt in receipts)
    return sum(receipt.batch_mean * receipt.steps for receipt in receipts) / steps if steps else 0.0
