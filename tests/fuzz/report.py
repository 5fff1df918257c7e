"""What a campaign has found: tables for people, and everything as JSON."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.attacking import Attack
from tests.fuzz.campaign import Findings

_PACKAGES = ("grpcio", "protobuf", "onnxruntime")
_HOW = ("bytes", "values", "types")
_CALL_COLUMNS = ("method", "calls", "changed bytes", "changed values", "built from types", "answers")
_ATTACK_COLUMNS = ("attack", "frames", "what the server did", "sound call after it, ms", "memory, MiB", "faults")

Rows = Sequence[Sequence[str]]


def call_rows(found: Findings) -> Rows:
    """One for each method, and one for all."""
    rows = []
    for method in sorted({method for method, _, _ in found.calls}):
        ways = Counter({how: _sum(found, method, how) for how in _HOW})
        answers: Counter[str] = Counter()
        for (name, _, code), count in found.calls.items():
            if name == method:
                answers[code] += count
        told = ", ".join(f"{code} {count:,}" for code, count in answers.most_common())
        rows.append((method, f"{ways.total():,}", *(f"{ways[how]:,}" for how in _HOW), told))
    totals = [sum(count for (_, how, _), count in found.calls.items() if how == one) for one in _HOW]
    rows.append(("all", f"{found.messages:,}", *(f"{total:,}" for total in totals), ""))
    return rows


def attack_rows(attacks: Iterable[Attack]) -> Rows:
    """One for each attack."""
    return [
        (
            attack.name.replace("_", " "),
            f"{attack.frames:,}",
            attack.reaction,
            f"{attack.answered_ms:.0f}",
            f"{attack.growth_mib:.0f}",
            "; ".join(attack.faults) or "none",
        )
        for attack in attacks
    ]


def summary(found: Findings) -> str:
    """One sentence."""
    early, late = found.memory[len(found.memory) // 4], found.memory[-1]
    return (
        f"{found.messages:,} calls in {found.seconds:.0f} s, {found.socket_calls:,} of them over a socket; "
        f"{found.idle_checks} looks at what is held; "
        f"memory {early:.0f} MiB after a quarter and {late:.0f} MiB in the end; faults: {len(found.faults)}"
    )


def show(found: Findings, attacks: Sequence[Attack]) -> None:
    """Print the tables, and every fault."""
    console = Console(width=160)
    for title, columns, rows in (
        (summary(found), _CALL_COLUMNS, call_rows(found)),
        ("HTTP/2", _ATTACK_COLUMNS, attack_rows(attacks)),
    ):
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for fault in found.faults:
        console.print(f"- {fault}", highlight=False, markup=False)


def publish(folder: Path, found: Findings, attacks: Sequence[Attack], *, seed: int) -> None:
    """Write ``fuzzing.json`` and ``fuzzing.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = time.strftime("%Y-%m-%d", time.gmtime())
    versions = {name: version(name) for name in _PACKAGES}
    content = {
        "measured_at": measured,
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions,
        "seed": seed,
        "calls": [
            {"method": method, "how": how, "status": code, "count": count}
            for (method, how, code), count in sorted(found.calls.items())
        ],
        "socket_calls": found.socket_calls,
        "seconds": round(found.seconds, 1),
        "idle_checks": found.idle_checks,
        "memory_mib": found.memory,
        "faults": found.faults,
        "attacks": [vars(attack) for attack in attacks],
    }
    (folder / "fuzzing.json").write_text(json.dumps(content, indent=1) + "\n")
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    page = f"""# Fuzzing

`make fuzz` sends messages that nobody means to a server over tiny models of all families: what each of them decodes,
reads and explains is real. The messages of a call are a sound request with changed **bytes** (bit flips, truncation,
lengths that lie, unknown fields, wrong wire types, huge numbers, deep nesting, repetition, disorder, noise), a sound
request with changed **values** (the edges of every type, text from all of Unicode), or **built** from nothing but the
message's type. They go through the server's own interceptors and handlers in its process, and a share of them over a
socket. Then HTTP/2 itself is misused.

It is a fault if a call ends with INTERNAL or UNKNOWN, hangs, or shows anything of the inside (a trace, the type of an
exception, a path); if the server logs an error; if a row or a place in a queue or inside the gate is held when all
calls have ended; or if a sound call is not answered after an attack.

`python -m tests.fuzz --seed {seed} --messages {found.messages}`, {measured}, {used}:

{summary(found)}.

{_markdown(_CALL_COLUMNS, call_rows(found))}

Each attack has a connection of its own; the server and the attacker share a process, whose memory is measured.

{_markdown(_ATTACK_COLUMNS, attack_rows(attacks))}

Numbers of resets and GOAWAY are error codes of HTTP/2 (11: ENHANCE_YOUR_CALM), those of gRPC its statuses. All of the
attacks and 3,000 calls are part of the tests (`tests/contract/test_fuzzing.py`).
"""
    (folder / "fuzzing.md").write_text(page)


def _sum(found: Findings, method: str, how: str) -> int:
    return sum(count for (name, made, _), count in found.calls.items() if (name, made) == (method, how))


def _markdown(columns: Sequence[str], rows: Rows) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
