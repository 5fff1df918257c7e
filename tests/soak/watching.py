"""What a server process holds: memory, threads and files by /proc, rows and queue by its metrics."""

from __future__ import annotations

import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

MIB = 1 << 20
_SECONDS = 20.0
_MEMORY = ("Rss", "Pss", "Private_Dirty", "Anonymous")


@dataclass(frozen=True)
class Sample:
    """One look at the server; memory in MiB."""

    seconds: float
    """Since the soak began."""
    requests: int
    """That the callers have seen the end of."""
    rss: float
    pss: float
    private_dirty: float
    anonymous: float
    heap_used: float
    """Allocated by malloc; resident memory holds the holes between, too, which come and go."""
    heap_free: float
    threads: int
    files: int
    """Open file descriptors, connections among them."""
    rows_used: int
    rows_free: int
    waiting: int
    running: int
    calls: int
    """Inside the server."""


class Watcher:
    """Looks at the process ``pid``, whose metrics are at ``http`` (HOST:PORT)."""

    def __init__(self, pid: int, http: str) -> None:
        self._process = Path(f"/proc/{pid}")
        self._url = f"http://{http}/metrics"
        self._began = time.monotonic()

    def sample(self, requests: int) -> Sample:
        """Blocks for some milliseconds."""
        # Before there is a connection to the metrics, which is a file too.
        files = len(list((self._process / "fd").iterdir()))
        with urllib.request.urlopen(self._url, timeout=_SECONDS) as page:
            text = page.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                key = f"{one.name}:{one.labels['state']}" if "state" in one.labels else one.name
                sums[key] = sums.get(key, 0.0) + one.value
        memory = self._memory()
        return Sample(
            seconds=round(time.monotonic() - self._began, 3),
            requests=requests,
            rss=memory["Rss"],
            pss=memory["Pss"],
            private_dirty=memory["Private_Dirty"],
            anonymous=memory["Anonymous"],
            heap_used=round(sums["dragoman_heap_bytes:used"] / MIB, 2),
            heap_free=round(sums["dragoman_heap_bytes:free"] / MIB, 2),
            threads=len(list((self._process / "task").iterdir())),
            files=files,
            rows_used=int(sums["dragoman_rows:used"]),
            rows_free=int(sums["dragoman_rows:free"]),
            waiting=int(sums["dragoman_waiting"]),
            running=int(sums["dragoman_running"]),
            calls=int(sums.get("dragoman_rpcs_in_flight", 0)),
        )

    def _memory(self) -> dict[str, float]:
        """In MiB, of all mappings together."""
        lines = (self._process / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        sizes = {name: int(rest.split()[0]) * 1024 / MIB for name, _, rest in (line.partition(":") for line in lines)}
        return {name: round(sizes[name], 2) for name in _MEMORY}
