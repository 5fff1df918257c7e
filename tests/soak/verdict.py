"""What must hold at the end of a soak: nothing was lost, nothing is held, nothing grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.soak.watching import Sample

MOST_GROWTH = 0.05
"""Of resident memory, from the idle server after the first half to that after the second."""
MOST_ALLOCATED = 0.02
"""The same of what malloc has given out, which has no holes that come and go."""
_THREADS = 1
"""gRPC ends and begins threads of its own as it sees fit."""


def faults(idle: Mapping[str, Sample], failures: Sequence[str]) -> list[str]:
    """Everything that is wrong, by the idle server ``before`` any request, ``halfway`` and at the ``end``."""
    before, halfway, end = idle["before"], idle["halfway"], idle["end"]
    found = [f"{len(failures)} requests failed, such as: {failures[0]}"] if failures else []
    growth = end.rss / halfway.rss - 1
    if growth > MOST_GROWTH:
        found.append(f"resident memory grew from {halfway.rss:.1f} to {end.rss:.1f} MiB, by {growth:.1%}")
    growth = end.heap_used / halfway.heap_used - 1
    if growth > MOST_ALLOCATED:
        found.append(f"what is allocated grew from {halfway.heap_used:.1f} to {end.heap_used:.1f} MiB, by {growth:.1%}")
    for name, one in (("halfway", halfway), ("end", end)):
        held = {"rows_used": one.rows_used, "waiting": one.waiting, "running": one.running, "calls": one.calls}
        found += [f"{name}: {what} = {value} while nobody asks" for what, value in held.items() if value]
        if one.rows_free != before.rows_free:
            found.append(f"{name}: rows_free = {one.rows_free}, at first {before.rows_free}")
    if end.files != halfway.files:
        found.append(f"file descriptors: {end.files} at the end, {halfway.files} halfway")
    if abs(end.threads - halfway.threads) > _THREADS:
        found.append(f"threads: {end.threads} at the end, {halfway.threads} halfway")
    return found
