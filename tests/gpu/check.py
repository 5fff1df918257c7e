"""Checks and times everything that runs on a GPU, part by part; a part that fails is reported, and the rest goes on.

``python -m tests.gpu.check --output FOLDER``: writes gpu.json and prints a line after each figure, a table at the end,
and ends with 1 where a check failed. Comparisons with other software may be missing: they do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.gpu.launching import Findings, Launch, Workers
from tests.gpu.part import NOT_RUN, Part, graphs_fail
from tests.gpu.plan import exported, exports, parts
from tests.gpu.table import figure_text, heading, table
from tests.gpu.targets import targets

_LOOK_SECONDS = 0.2
_EXPORT = "export"


class Check:
    """The exports that run, what is done, and where that is written."""

    def __init__(self, folder: Path, output: Path, seconds: float, launch: Launch, before: Sequence[Part]) -> None:
        self._folder, self._output, self._launch = folder, output, launch
        self._began = time.monotonic()
        self._end = self._began + seconds
        self._lock = threading.Lock()
        self.done = list(before)
        self._exporting: dict[str, threading.Thread] = {}
        self._exports: dict[str, Part] = {}
        self._tried: list[Part] = []

    def export(self, part: Part) -> None:
        """Begin to export a subject."""
        thread = threading.Thread(target=self._run, args=(part, f"export {part.subject}"), daemon=True)
        self._exports[part.subject], self._exporting[part.subject] = part, thread
        thread.start()

    def run(self, pending: list[Part]) -> None:
        """Run the parts in their order; one whose subject is not exported yet lets the next ones pass."""
        while pending:
            part = next((one for one in pending if self._ready(one)), None)
            if part is None and time.monotonic() < self._end:
                time.sleep(_LOOK_SECONDS)
                continue
            part = part or pending[0]
            pending.remove(part)
            if graphs_fail(self.done):
                part.without_graphs()
            if self._is_done(part):
                continue
            if (export := self._exports.get(part.subject)) and export.error and part.name != "machine":
                part.error = f"{NOT_RUN}: export: {export.error}"
            part.beside = sorted(name for name, thread in self._exporting.items() if thread.is_alive())
            self._run(part, heading(part))
            if part.name == "machine" and part.error:
                return

    def _is_done(self, part: Part) -> bool:
        same = [one for one in self.done if one.key == part.key]
        # A machine is looked at each time: it may be another one.
        return any(one in self._tried or not (one.error or one.name == "machine") for one in same)

    def join(self) -> None:
        """Wait for the exports."""
        for thread in self._exporting.values():
            thread.join()

    def _ready(self, part: Part) -> bool:
        thread = self._exporting.get(part.subject)
        return part.name == "machine" or thread is None or not thread.is_alive()

    def _run(self, part: Part, name: str) -> None:
        def tell(figure: Findings) -> None:
            with self._lock:
                print(f"{time.monotonic() - self._began:6.1f} s  {name}: {figure_text(figure)}", flush=True)
                self._write()

        with self._lock:
            before = [one for one in self.done if one.key == part.key]
            for one in before:  # what was cut, and is measured again
                part.found = one.found | part.found
                self.done.remove(one)
            self.done.append(part)
            self._tried.append(part)
        if not part.error:
            part.run(self._folder, self._end - time.monotonic(), self._launch, tell)
        with self._lock:
            ended = f"FAILED: {part.error}" if part.error else f"{part.seconds:.1f} s"
            print(f"{time.monotonic() - self._began:6.1f} s  {name}: {ended}", flush=True)
            self._write()

    def _write(self) -> None:
        beside = self._output / ".gpu.json"
        beside.write_text(json.dumps([asdict(one) for one in self.done], indent=1) + "\n")
        beside.replace(self._output / "gpu.json")


def main(arguments: Sequence[str] | None = None, launch: Launch | None = None) -> int:
    """Run the parts; the exit status."""
    given = _given(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    subjects, wanted = given.subjects.split(","), set(filter(None, given.parts.split(",")))
    before = [Part(**one) for one in json.loads(given.skip_done.read_text())] if given.skip_done else []
    pending = [part for part in parts(given.device, subjects) if not wanted or part.name in wanted]
    for part in pending if given.without_graphs else ():
        part.without_graphs()
    with tempfile.TemporaryDirectory(prefix="dragoman-gpu-") as temporary, Workers() as workers:
        folder = given.work or Path(temporary)
        check = Check(folder, given.output, given.seconds, launch or workers, before)
        needed = {part.subject for part in pending if part.name != "machine"}
        for part in exports(given.device, subjects):
            if (part.subject in needed or _EXPORT in wanted) and not exported(folder, part.subject).exists():
                check.export(part)
        check.run(pending)
        if _EXPORT in wanted:
            check.join()
    check.join()
    done = check.done
    failed = [part for part in done if part.error and part.counts]
    print("", table(done), "", *targets(done), "", sep="\n")
    print(f"{len(done)} parts, {len(failed)} checks failed")
    return 1 if failed or not done else 0


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--subjects", default="base,decoder-1b,big", help="models, with commas, first to last")
    parser.add_argument("--parts", default="", help="names of parts, with commas; export: all of the subjects")
    parser.add_argument("--without-graphs", action="store_true", help="steps are not captured")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all parts together")
    parser.add_argument("--skip-done", type=Path, help="gpu.json of a check that was cut: what it has is not run again")
    parser.add_argument("--work", type=Path, help="folder where exported models stay, for another check")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
