"""Runs a part's work in a process of its own, and passes on what it finds as it finds it.

A process takes seconds to import what it needs. So the next one is started while one works, and waits to be told what
to do: what a part is timed by is no import.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

Findings = dict[str, Any]
Job = dict[str, str]
"""What a process is to do: the arguments of ``tests.gpu.parts.work``."""

_COMMAND = (sys.executable, "-m", "tests.gpu.parts")
_LONGEST_ERROR = 400
CUT = "cut"
_END = None


class Launch(Protocol):
    """Does a job for at most ``limit`` seconds, and tells each figure when it is there."""

    def __call__(self, job: Job, limit: float, tell: Callable[[Findings], None]) -> str:
        """Why the job is not done; empty where it is."""


class Workers:
    """Processes that each do one job; one more waits for the next. A context manager."""

    def __init__(self) -> None:
        self._waiting: _Worker | None = None
        self._working: set[_Worker] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for worker in self._working:
                worker.kill()
            if self._waiting is not None:
                self._waiting.end()

    def __call__(self, job: Job, limit: float, tell: Callable[[Findings], None]) -> str:
        """As ``Launch`` says."""
        until = time.monotonic() + limit
        with self._lock:
            worker = self._waiting or _Worker()
            self._waiting = _Worker()
            self._working.add(worker)
        try:
            return worker.do(job, until, limit, tell)
        finally:
            with self._lock:
                self._working.remove(worker)
            worker.end()


class _Worker:
    """A process that has its imports behind it, or nearly so."""

    def __init__(self) -> None:
        self._reader: threading.Thread | None = None
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (closed in ``end``)
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            process_group=0,  # what it starts ends with it
        )

    def do(self, job: Job, until: float, limit: float, tell: Callable[[Findings], None]) -> str:
        """See ``Launch``."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: why stands in its errors
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.close()
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()
        while True:
            try:
                line = lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return f"{CUT} after {limit:.0f} s"
            if line is _END:
                return self._outcome()
            tell(json.loads(line))

    def kill(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """The same, and leave nothing open."""
        self.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _read(self, lines: queue.SimpleQueue[str | None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.put(line)
        lines.put(_END)

    def _outcome(self) -> str:
        status = self._process.wait()
        if not status:
            return ""
        self._errors.seek(0)
        last = ([line for line in self._errors.read().splitlines() if line.strip()] or ["no message"])[-1]
        return f"signal {-status}: {last}"[:_LONGEST_ERROR] if status < 0 else last[:_LONGEST_ERROR]
