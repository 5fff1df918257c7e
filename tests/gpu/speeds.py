"""How fast ours is: steps, prompts, and the serving engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman_export.serving import UNBOUNDED, ServedEngine
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.device import Device
from dragoman_server.engine import Engine
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.runtime import OnnxRuntime
from tests.gpu.measuring import (
    ROUNDS,
    SOURCE,
    STEPS,
    Findings,
    Runtime,
    WrongResultError,
    begin,
    grow,
    ladder,
    texts,
)
from tests.gpu.subjects import Subject

if TYPE_CHECKING:
    from dragoman_server.engine import DecodingEngine

BEAMS = (1, 4)
_MOST_ROWS = {"decoder-1b": 512}
"""Where wider ones would have caches of tens of gigabytes."""
_ENCODED_TOGETHER = 8192
"""Source tokens."""
_WARM, _ROUND = 4, 20
"""Steps, of which a row has room for all rounds."""
_PROMPTS = (12, 13, 14, 15, 16, 17, 18, 19)
"""Lengths."""


def steps(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Seconds of a greedy step, the way to the host and back included, by rows; medians of rounds."""
    runtime = subject.runtime(folder, device, max(ladder(device)))
    decoder = subject.graphs(folder).decoder
    for rows in ladder(device):
        tokens = grow(runtime, begin(runtime, subject, texts(subject, rows, length=SOURCE)), _WARM).tolist()
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            tokens = grow(runtime, tokens, _ROUND).tolist()
            rounds.append((time.perf_counter() - began) / _ROUND)
        seconds = statistics.median(rounds)
        least = subject.bytes_of_a_step(decoder, rows, _WARM + ROUNDS * _ROUND // 2, SOURCE)
        yield {str(rows): {"seconds": seconds, "tokens_per_second": rows / seconds, "least_bytes": least}}


def prompts(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Seconds until a text of one row is read: of a length that was never read before, and of one that was.

    Libraries may prepare something for each length; the first reading of all, of another length, does not count.
    """
    runtime = subject.runtime(folder, device, 1)

    def read(length: int) -> float:
        text = texts(subject, 1, length=length)
        began = time.perf_counter()
        begin(runtime, subject, text)
        return time.perf_counter() - began

    read(SOURCE)
    for name in ("new length", "known length"):
        seconds = [read(length) for length in _PROMPTS]
        yield {name: {"seconds": statistics.median(seconds), "most": max(seconds)}}


def cases(subject: Subject, device: Device) -> list[tuple[int, int]]:
    """Requests that are there at once, and beams: what says most comes first."""
    most = _MOST_ROWS.get(subject.name, max(ladder(device)) * max(BEAMS))
    return [(rows, beams) for beams in BEAMS for rows in ladder(device) if rows * beams <= most]


def served(subject: Subject, folder: Path, device: Device) -> ServedEngine:
    """The serving engine with one lane, for all cases."""
    most = max(rows * beams for rows, beams in cases(subject, device))
    return serving(subject, subject.runtime(folder, device, most))


def serving(subject: Subject, runtime: Runtime) -> ServedEngine:
    """The serving engine over that lane."""
    eos = subject.config.eos_id
    made: DecodingEngine = (
        Engine(
            [runtime],
            bos=subject.config.bos_id,
            eos=eos,
            max_waiting=UNBOUNDED,
            max_waiting_tokens=UNBOUNDED,
            encode_tokens=_ENCODED_TOGETHER,
        )
        if isinstance(runtime, OnnxRuntime)
        else PromptEngine([runtime], eos=eos, max_waiting=UNBOUNDED, max_waiting_tokens=UNBOUNDED)
    )
    return ServedEngine(made, runtime.provider)


def answering(
    engine: ServedEngine, begins: Sequence[Sequence[int]], beams: int, length: int = STEPS
) -> Callable[[], list[list[int]]]:
    """Gives the best answer to each text; WrongResultError where different texts are all answered alike."""
    asked = [(begin, DecodingOptions(max_length=length, beam_size=beams)) for begin in begins]

    def answers() -> list[list[int]]:
        found = [answer.token_ids for answer in engine.answers(asked)]
        if len(found) > 1 and all(ids == found[0] for ids in found):
            raise WrongResultError("the engine answered all texts alike")
        return found

    return answers


def engine(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Tokens a second of the serving engine, by requests that are there at once and beams."""
    with served(subject, folder, device) as ours:
        for rows, beams in cases(subject, device):
            run = answering(ours, texts(subject, rows, length=SOURCE), beams)
            tokens = sum(map(len, run()))
            seconds = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - began)
            median = statistics.median(seconds)
            yield {case_name(rows, beams): {"seconds": median, "tokens_per_second": tokens / median}}


def case_name(rows: int, beams: int) -> str:
    """As tables have it."""
    return f"{rows} rows, beam {beams}"
