"""Whether what an encoder says of a text depends on the texts that are in its pass."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dragoman_server.errors import ServerError
from dragoman_server.independence import traffic
from dragoman_server.independence.checking import Company, Result, mean_batch
from dragoman_server.independence.comparison import Comparison
from dragoman_server.independence.watching import Watch
from dragoman_server.pass_engine import PassEngine
from dragoman_server.pass_request import PassCompletion, PassRequest
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, PassRuntime
from dragoman_server.progress import Stages

KINDS: Mapping[str, str] = {
    "states": "states",
    "label_logits": "labels",
    "tag_logits": "tags",
    "mask_logits": "masks",
}
"""What an encoder gives (``EncoderOutput``), and what it is called in the report."""
EVERY_LENGTH = ", every length"
"""Behind the kind where random tokens were read, by the runtime itself."""

_ROUNDS = 3
_UNBOUNDED = 1 << 40


@dataclass(frozen=True)
class PassSubject:
    """One precision of an encoder; ``runtime`` makes a lane's runtime of so many rows."""

    precision: str
    runtime: Callable[[int], PassRuntime]


@dataclass(frozen=True)
class Passing:
    """Texts for an engine that reads."""

    engine: PassEngine
    inputs: Sequence[EncoderInput]

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.inputs)

    def submit(
        self,
        case: int,
        reply: Callable[[PassCompletion | ServerError], None],
        *,
        priority: int,
        deadline: float | None,
        watch: Watch | None,
    ) -> PassRequest:
        """Send a request to read the text."""
        request = PassRequest.of(self.inputs[case], reply, deadline, priority)
        self.engine.submit(request)
        return request


def check_passes(
    subject: PassSubject,
    inputs: Sequence[EncoderInput],
    *,
    lanes: Sequence[int],
    max_rows: int,
    seed: int,
    stages: Stages,
) -> tuple[list[Result], list[Company]]:
    """Compare every text alone with itself among others, under random loads on each number of lanes.

    Raises TrafficError where a request was not answered.
    """
    with _running(subject, [max_rows]) as engine, stages.stage(f"{subject.precision}, alone", len(inputs)) as advance:
        run = traffic.alone(Passing(engine, inputs), range(len(inputs)), advance=advance)
    expected = {answer.case: answer.completion.output for answer in run.answered}
    results: list[Result] = []
    company: list[Company] = []
    for count in lanes:
        name = f"{subject.precision}, {count} lane(s) of {max_rows} rows"
        others: Counter[str] = Counter()
        answered: list[traffic.Answered[PassCompletion]] = []
        seconds = 0.0
        with _running(subject, [max_rows] * count) as engine, stages.stage(name, _ROUNDS * len(inputs)) as advance:
            for number in range(_ROUNDS):
                drawn = (seed * 1000 + count) * _ROUNDS + number
                mix = traffic.together(Passing(engine, inputs), seed=drawn, advance=advance)
                others, answered, seconds = others + mix.others, answered + mix.answered, seconds + mix.seconds
        company.append(Company(subject.precision, count, others))
        found: dict[str, Comparison] = {}
        for answer in answered:
            _compare(found, answer.case, expected[answer.case], answer.completion.output)
        results += [
            Result(
                precision=subject.precision,
                kind=kind,
                lanes=count,
                comparison=comparison,
                alone_per_second=len(run.answered) / run.seconds,
                together_per_second=len(answered) / seconds,
                mean_batch=mean_batch([answer.completion.receipt for answer in answered]),
            )
            for kind, comparison in found.items()
        ]
    return results, company


@contextmanager
def _running(subject: PassSubject, rows: Sequence[int]) -> Iterator[PassEngine]:
    engine = PassEngine(
        [subject.runtime(count) for count in rows], max_waiting=_UNBOUNDED, max_waiting_tokens=_UNBOUNDED
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(0.0)


def compare_passes(
    runtime: PassRuntime, inputs: Sequence[EncoderInput], *, seed: int, advance: Callable[[int], None]
) -> dict[str, Comparison]:
    """Each text in a pass by itself, then ``_ROUNDS`` times in a pass of random size and company; by kind.

    The tokens of a comparison are decisions: the likeliest label of a text, tag of a token, filling of a mask.
    """
    alone = []
    for text in inputs:
        alone += runtime.run([text])
        advance(1)
    found: dict[str, Comparison] = {}
    chance = random.Random(seed)
    for _ in range(_ROUNDS):
        order = list(range(len(inputs)))
        chance.shuffle(order)
        while order:
            count = chance.randint(1, runtime.max_rows)
            batch, order = order[:count], order[count:]
            outputs = runtime.run([inputs[number] for number in batch])
            for number, output in zip(batch, outputs, strict=True):
                _compare(found, number, alone[number], output)
            advance(len(batch))
    return found


def check_every_length(
    subject: PassSubject, inputs: Sequence[EncoderInput], *, rows: int, seed: int, stages: Stages
) -> list[Result]:
    """The runtime itself, over texts of every length."""
    name = f"{subject.precision}, every length to {max(len(text.ids) for text in inputs)}"
    with stages.stage(name, (1 + _ROUNDS) * len(inputs)) as advance:
        found = compare_passes(subject.runtime(rows), inputs, seed=seed, advance=advance)
    return [Result(subject.precision, kind + EVERY_LENGTH, 1, comparison) for kind, comparison in found.items()]


def _compare(found: dict[str, Comparison], number: int, alone: EncoderOutput, other: EncoderOutput) -> None:
    for field, kind in KINDS.items():
        one, two = getattr(alone, field), getattr(other, field)
        if one is None or not one.size:
            continue
        comparison = found.setdefault(kind, Comparison())
        comparison.requests += 1
        comparison.add_scores(one, two)
        if kind == "states":
            continue
        comparison.tokens += one[..., 0].size
        different = int((one.argmax(-1) != two.argmax(-1)).sum())
        comparison.different_tokens += different
        if different:
            comparison.parted.append(number)
