"""The parts of the check on a GPU, each run in a process of its own: what one breaks, the others survive.

``python -m tests.gpu.parts`` reads one job from stdin, and prints a line of JSON for each figure.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from dragoman_server.device import Device
from tests.gpu.attention import attention
from tests.gpu.correctness import independence, parity
from tests.gpu.launches import gaps, nodes
from tests.gpu.launching import Findings
from tests.gpu.others import convert_for_ctranslate2, ctranslate2, hugging_face, hugging_face_compiled
from tests.gpu.plan import exported
from tests.gpu.speeds import engine, prompts, steps
from tests.gpu.subjects import SUBJECTS, Subject
from tests.gpu.versions import machine

_EXPORT_THREADS = 3
"""Exports run side by side, and beside what is timed."""


def export(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Write the model's graphs, then the model for CTranslate2 where that is installed."""
    torch.set_num_threads(_EXPORT_THREADS)
    began = time.perf_counter()
    paths = sorted(set(subject.export(folder)))
    yield {"seconds": time.perf_counter() - began, "bytes": [path.stat().st_size for path in paths]}
    began = time.perf_counter()
    try:
        convert_for_ctranslate2(subject, folder, device)
    except ImportError as error:
        yield {"ctranslate2": str(error)}
    else:
        yield {"ctranslate2": f"converted in {time.perf_counter() - began:.1f} s"}
    exported(folder, subject.name).touch()


PARTS: dict[str, Callable[[Subject, Path, Device], Iterator[Findings]]] = {
    part.__name__: part
    for part in (
        machine,
        export,
        parity,
        independence,
        steps,
        engine,
        prompts,
        nodes,
        gaps,
        attention,
        ctranslate2,
        hugging_face,
        hugging_face_compiled,
    )
}


def work(*, name: str, subject: str, folder: str, device: str, environment: str) -> Iterator[Findings]:
    """Do a job: a part's name, a subject's, the folder of graphs, the device, and a variable as NAME=VALUE or none."""
    if environment:
        variable, _, value = environment.partition("=")
        os.environ[variable] = value  # before any session is made
    kind = device.removesuffix("+graphs")
    assert kind in {"cpu", "cuda"}
    own = Device("cuda" if kind == "cuda" else "cpu", resident=True, cuda_graphs=device != kind)
    with torch.no_grad():
        yield from PARTS[name](SUBJECTS[subject], Path(folder), own)


def main() -> None:
    """What anybody else prints goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as told:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        line = sys.stdin.readline()
        for figure in work(**json.loads(line)) if line else ():
            told.write(json.dumps(figure) + "\n")
            told.flush()


if __name__ == "__main__":
    main()
