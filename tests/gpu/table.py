"""Findings as lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.gpu.launching import Findings
from tests.gpu.part import Part
from tests.gpu.targets import ceiling


def table(done: Sequence[Part]) -> str:
    """All findings."""
    most = ceiling(done)
    return "\n".join(line for part in done for line in _lines(part, most))


def heading(part: Part) -> str:
    """What a part is."""
    return " ".join(filter(None, (part.name, part.subject, part.device, part.environment)))


def figure_text(figure: Findings) -> str:
    """One figure as it is told when it is there."""
    return json.dumps(_short(figure))


def _lines(part: Part, most: float | None) -> Iterator[str]:
    beside = f", beside exports of {', '.join(part.beside)}" if part.beside else ""
    yield f"{heading(part)}: {part.seconds:.1f} s{beside}"
    for name, found in part.found.items():
        if part.name == "steps":
            share = f", {found['least_bytes'] / found['seconds'] / most:6.1%} of the ceiling" if most else ""
            yield (
                f"    {name:>4} rows: {found['seconds'] * 1e3:8.3f} ms, "
                f"{found['tokens_per_second']:10.0f} tokens/s{share}"
            )
        else:
            yield f"    {name}: {json.dumps(_short(found))}"
    if part.error:
        yield f"    FAILED: {part.error}"


def _short(found: Any) -> Any:
    """Numbers with four digits."""
    if isinstance(found, dict):
        return {name: _short(one) for name, one in found.items()}
    if isinstance(found, list):
        return [_short(one) for one in found]
    if isinstance(found, float):
        return float(f"{found:.4g}") if abs(found) < 1e4 else round(found)
    return found
