"""Checks and times everything that runs on a GPU, part by part; a part that fails is reported, and the rest goes on.

``python -m tests.gpu.check --output FOLDER``: prints a table, writes gpu.json, and ends with 1 where a check failed.
Comparisons with other software may be missing: they do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_COMPARED = frozenset({"attention", "hugging_face", "ctranslate2"})
_LONGEST_ERROR = 400


Launch = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]
"""Runs a command for at most so many seconds; raises subprocess.TimeoutExpired."""


def launched(command: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
    """A process of its own, with its output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


@dataclass
class Part:
    """One part, and what came of it."""

    name: str
    subject: str
    device: str
    limit: float
    """Seconds."""
    seconds: float = 0.0
    error: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the check fails with it."""
        return self.name not in _COMPARED

    def run(self, folder: Path, left: float, launch: Launch = launched) -> None:
        """Run it within its limit and what is left of the whole check's, in seconds."""
        # The processor takes as long as it takes: there it is not for the figures.
        limit = left if self.device == "cpu" else min(self.limit, left)
        if limit < 1:
            self.error = "not run: the time is up"
            return
        command = [sys.executable, "-m", "tests.gpu.parts", self.name, self.subject, str(folder), self.device]
        began = time.monotonic()
        try:
            done = launch(command, limit)
            if done.returncode:
                self.error = (done.stderr.strip().splitlines() or ["no message"])[-1][:_LONGEST_ERROR]
            else:
                self.found = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.TimeoutExpired:
            self.error = f"not done after {limit:.0f} s"
        except (ValueError, IndexError):
            self.error = f"printed no JSON: {done.stdout[-_LONGEST_ERROR:]!r}"
        self.seconds = time.monotonic() - began


def parts(device: str, subjects: Sequence[str]) -> Iterator[Part]:
    """In the order of their worth: what comes last may not be reached."""
    yield Part("machine", subjects[0], device, 60)
    yield Part("bandwidth", subjects[0], device, 30)
    for subject in subjects:
        yield Part("graphs", subject, device, 150)
        if "decoder" not in subject:
            yield Part("parity", subject, device, 60)
        yield Part("steps", subject, device, 60)
        if device == "cuda":
            yield Part("steps", subject, "cuda+graphs", 60)
        yield Part("engine", subject, device, 90)
        yield Part("independence", subject, device, 60)
        yield Part("nodes", subject, device, 60)
        yield Part("gaps", subject, "cuda+graphs" if device == "cuda" else device, 60)
        if "decoder" in subject:
            yield Part("attention", subject, device, 90)
    for subject in subjects:
        yield Part("ctranslate2", subject, device, 60)
        yield Part("hugging_face", subject, device, 90)


def table(done: Sequence[Part]) -> str:
    """All findings as lines of text."""
    ceiling = next((part.found["bytes_per_second"] for part in done if "bytes_per_second" in part.found), None)
    lines = []
    for part in done:
        head = f"{part.name:13} {part.subject:11} {part.device:12} {part.seconds:6.1f} s  "
        if part.error:
            lines.append(f"{head}FAILED: {part.error}")
            continue
        if part.name != "steps":
            lines.append(head + json.dumps(part.found))
            continue
        lines.append(head.rstrip())
        for rows, step in part.found.items():
            share = f", {step['least_bytes'] / step['seconds'] / ceiling:6.1%} of the ceiling" if ceiling else ""
            lines.append(
                f"{'':15}{rows:>4} rows: {step['seconds'] * 1e3:8.3f} ms, "
                f"{step['tokens_per_second']:10.0f} tokens/s{share}"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, launch: Launch = launched) -> int:
    """Run the parts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--subjects", default="base,big,decoder-1b", help="models, with commas")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all parts together")
    parser.add_argument("--only", default="", help="names of parts, with commas")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    wanted = set(filter(None, given.only.split(",")))
    end = time.monotonic() + given.seconds
    done: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-gpu-") as folder:
        for part in parts(given.device, given.subjects.split(",")):
            if wanted and part.name not in wanted:
                continue
            part.run(Path(folder), end - time.monotonic(), launch)
            done.append(part)
            print(table(done[-1:]), flush=True)
            # After each part: what was found is there, whatever ends this process.
            (given.output / "gpu.json").write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n")
    failed = [part for part in done if part.error and part.counts]
    print(f"\n{table(done)}\n\n{len(done)} parts, {len(failed)} checks failed")
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
