"""What was aimed at, and what was found: a line for each target that the findings say anything of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.gpu.part import Part

TIMES_AS_FAST = {"ctranslate2": 2.0, "hugging_face": 5.0}
"""Tokens a second of the engine, by those of other software, at every number of rows."""
CEILING_SHARE = 0.6
"""Of the bandwidth of a large copy: what a step of the largest decoder reads at one row."""
MOST_IDLE = 0.1
"""Share of the time between steps."""


def targets(done: Sequence[Part]) -> list[str]:
    """Each begins with "met" or "MISSED"."""
    lines = [*_speed(done), *_ceiling(done), *_idle(done)]
    return [f"{'met' if met else 'MISSED':7} {told}" for met, told in lines]


def _speed(done: Sequence[Part]) -> Iterator[tuple[bool, str]]:
    engines = {part.subject: part.found for part in done if part.name == "engine"}
    for part in done:
        least = TIMES_AS_FAST.get(part.name)
        for name, theirs in part.found.items() if least else ():
            ours = engines.get(part.subject, {}).get(name.replace(" rows,", " requests,"), {})
            if least and "tokens_per_second" in ours and "tokens_per_second" in theirs:
                ratio = ours["tokens_per_second"] / theirs["tokens_per_second"]
                yield ratio >= least, f"{part.subject}, {name}: {ratio:.2f} x {part.name}, at least {least:.0f}"


def _ceiling(done: Sequence[Part]) -> Iterator[tuple[bool, str]]:
    ceiling = next((part.found["bytes_per_second"] for part in done if "bytes_per_second" in part.found), None)
    for part in done:
        if ceiling and part.name == "steps" and "decoder" in part.subject and "1" in part.found:
            step = part.found["1"]
            share = step["least_bytes"] / step["seconds"] / ceiling
            told = f"{part.subject} on {part.device}, 1 row: {share:.1%} of the bandwidth, at least {CEILING_SHARE:.0%}"
            yield share >= CEILING_SHARE, told


def _idle(done: Sequence[Part]) -> Iterator[tuple[bool, str]]:
    for part in done:
        for rows, found in part.found.items() if part.name == "gaps" else ():
            if found["idle"] is not None:
                told = f"{part.subject}, {rows} rows: idle {found['idle']:.1%} of the time, at most {MOST_IDLE:.0%}"
                yield found["idle"] <= MOST_IDLE, told
