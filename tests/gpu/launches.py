"""What a step launches: nodes as onnxruntime counts them, kernels and the gaps between them as CUDA does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from dragoman_server.device import Device
from tests.gpu.measuring import STEPS, Findings, begin, grow, ladder
from tests.gpu.subjects import LONGEST, Subject


def nodes(subject: Subject, folder: Path, device: Device) -> Findings:
    """Nodes that a step launches, and what the host needs to launch them, by onnxruntime's own profile."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / f"profile-{subject.name}")
    options.log_severity_level = 3
    path = subject.graphs(folder).decoder
    session = ort.InferenceSession(path, options, providers=device.providers())
    feeds: Findings = {}
    shapes = {"input_ids": (8, 1), "lengths": (8,), "cross_lengths": (8,), "total_length": (), "cross_total": ()}
    for port in session.get_inputs():
        kind = {"tensor(int64)": "int64", "tensor(int32)": "int32"}.get(port.type, "float16")
        shape = shapes.get(port.name)
        if shape is None:
            shape = tuple({0: 8, 2: LONGEST}.get(axis, size) for axis, size in enumerate(port.shape))
            shape = (8, 1, port.shape[2]) if port.name.startswith("cross_last") else shape
        feeds[port.name] = np.ones(shape, kind) if "total" in port.name else np.zeros(shape, kind)
    runs = 5
    for _ in range(runs):
        session.run(["top_ids"], feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    launched = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    by_provider: dict[str, int] = {}
    for event in launched:
        name = event["args"].get("provider", "unknown")
        by_provider[name] = by_provider.get(name, 0) + 1
    return {
        "nodes_a_step": {name: count / runs for name, count in by_provider.items()},
        "seconds_of_launching": sum(event["dur"] for event in launched) / runs * 1e-6,
    }


def gaps(subject: Subject, folder: Path, device: Device) -> Findings:
    """Kernels and copies that a step launches on the GPU, and the share of its time that the GPU is idle, by rows.

    As CUDA's own tracing has it, which torch offers for the whole process; what it costs is in the gaps.
    """
    found: Findings = {}
    for rows in ladder(device):
        runtime = subject.runtime(folder, device, rows)
        begin(runtime, subject, rows)
        grow(runtime, rows, STEPS // 2)
        kinds = [torch.profiler.ProfilerActivity.CUDA] if device.kind == "cuda" else None
        with torch.profiler.profile(activities=kinds) as profile:
            grow(runtime, rows, STEPS // 2)
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in profile.events()
            if str(event.device_type) == "DeviceType.CUDA"
        ]
        found[str(rows)] = {"launched_a_step": len(spans) / (STEPS // 2), "idle": idle_share(spans)}
        del runtime
    return found


def idle_share(spans: Sequence[tuple[float, float]]) -> float | None:
    """Share of the time from the first begin to the last end that is in none of the spans; None: there are no spans."""
    if not spans:
        return None
    begin, covered, reached = min(spans)[0], 0.0, min(spans)[0]
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - covered / (reached - begin)
