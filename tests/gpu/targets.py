"""What was aimed at, and what was found: a line for each target that the findings say anything of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.gpu.part import Part

TIMES_AS_FAST = {"ctranslate2": 2.0, "hugging_face": 5.0}
"""Tokens a second of the engine, by those of other software, at every number of rows; medians of rounds by turns."""
CEILING_SHARE = 0.6
"""Of the bandwidth of a large copy: what a step of the largest decoder reads at one row."""
MOST_IDLE = 0.1
"""Share of the time between steps."""
_CHECKS = frozenset({"parity", "independence"})
_Line = tuple[Part, bool, str]


def targets(done: Sequence[Part]) -> list[str]:
    """Each begins with "met" or "MISSED"."""
    wrong = {(part.subject, part.device) for part in done if part.wrong and part.name in _CHECKS}
    lines = []
    for part, met, told in (*_speed(done), *_ceiling(done), *_idle(done)):
        right = (part.subject, part.device) not in wrong
        lines.append(f"{'met' if met and right else 'MISSED':7} {told}{'' if right else '; its results are wrong'}")
    return lines


def ceiling(done: Sequence[Part]) -> float | None:
    """Bytes a second of a large copy; None: not measured."""
    return next((part.found["bytes_per_second"] for part in done if "bytes_per_second" in part.found), None)


def _speed(done: Sequence[Part]) -> Iterator[_Line]:
    for part in done:
        least = TIMES_AS_FAST.get(part.name)
        for name, sides in part.found.items() if least else ():
            ratio = sides.get(part.name, {}).get("ratio")
            if least and ratio is not None:
                yield part, ratio >= least, f"{part.subject}, {name}: {ratio:.2f} x {part.name}, at least {least:.0f}"


def _ceiling(done: Sequence[Part]) -> Iterator[_Line]:
    most = ceiling(done)
    for part in done:
        if most and part.name == "steps" and "decoder" in part.subject and "1" in part.found:
            step = part.found["1"]
            share = step["least_bytes"] / step["seconds"] / most
            told = f"{part.subject} on {part.device}, 1 row: {share:.1%} of the bandwidth, at least {CEILING_SHARE:.0%}"
            yield part, share >= CEILING_SHARE, told


def _idle(done: Sequence[Part]) -> Iterator[_Line]:
    for part in done:
        for rows, found in part.found.items() if part.name == "gaps" else ():
            if found.get("idle") is not None:
                told = f"{part.subject}, {rows}: idle {found['idle']:.1%} of the time, at most {MOST_IDLE:.0%}"
                yield part, found["idle"] <= MOST_IDLE, told
