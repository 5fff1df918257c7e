"""Checks and times everything that runs on a GPU, part by part; a part that fails is reported, and the rest goes on.

``python -m tests.gpu.check --output FOLDER``: prints a table, writes gpu.json, and ends with 1 where a check failed.
Comparisons with other software may be missing: they do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.gpu.part import Launch, Part, launched
from tests.gpu.targets import targets


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
    print("", table(done), "", *targets(done), "", sep="\n")
    print(f"{len(done)} parts, {len(failed)} checks failed")
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
