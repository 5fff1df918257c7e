"""Peak memory of one side doing one job, in a process of its own that holds nothing else.

``python -m tests.bench.memory JOB.json`` does the job and prints what it took; ``measured`` starts that process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """Run the job; returns ``idle_bytes`` (loaded, nothing translated yet), ``peak_bytes`` and ``tokens``.

    ``job`` has ``side`` ("ours" or "theirs"), ``model`` (folder), ``name``, ``settings``, ``beam`` and ``sources``.
    """
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "tests.bench.memory", str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{job['side']}: {run.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def peak_bytes() -> int:
    """Most memory that this process has held since it began.

    Not ``getrusage``'s figure, which a process inherits from the one that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not tell the peak of a process")


def _ours(job: dict[str, Any]) -> tuple[int, list[list[int]]]:
    from tests.bench.ours import Ours, OurSettings  # noqa: PLC0415  (only this side's packages)

    with Ours(Path(job["model"]), job["name"], OurSettings(**job["settings"])) as ours:
        idle = peak_bytes()
        return idle, ours.decode(job["sources"], beam=job["beam"]).outputs


def _theirs(job: dict[str, Any]) -> tuple[int, list[list[int]]]:
    # CTranslate2 imports PyTorch where it is installed, for conversions only: its memory is not CTranslate2's.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import ctranslate2  # noqa: PLC0415  (only this side's packages)

    settings = job["settings"]
    translator = ctranslate2.Translator(
        job["model"],
        device="cpu",
        compute_type="int8",
        inter_threads=settings["inter_threads"],
        intra_threads=settings["intra_threads"],
    )
    idle = peak_bytes()
    written: Sequence[Sequence[str]] = [[str(i) for i in source] for source in job["sources"]]
    results = translator.translate_batch(
        written,
        beam_size=job["beam"],
        max_batch_size=settings["max_batch_size"],
        batch_type=settings["batch_type"],
        max_decoding_length=job["max_length"],
    )
    return idle, [[int(token) for token in result.hypotheses[0]] for result in results]


def _main(path: Path) -> None:
    job = json.loads(path.read_text(encoding="utf-8"))
    idle, outputs = (_ours if job["side"] == "ours" else _theirs)(job)
    print(json.dumps({"idle_bytes": idle, "peak_bytes": peak_bytes(), "tokens": sum(map(len, outputs))}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
