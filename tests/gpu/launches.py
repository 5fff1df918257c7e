"""What a step launches: nodes as onnxruntime counts them, kernels and the gaps between them as CUDA does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from dragoman_export.serving import ServedEngine
from dragoman_server.device import CPU, Device
from dragoman_server.sessions import Sessions, lane_session
from tests.gpu.measuring import SOURCE, STEPS, Findings, begin, grow, texts
from tests.gpu.speeds import answering, serving
from tests.gpu.subjects import LONGEST, Subject

_ROWS = (1, 32, 8)
"""With more of them, tracing takes longer than what is traced."""
_NODE_ROWS = 8

Span = tuple[float, float]


def nodes(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Nodes that a step as it is served launches, and what the host needs to launch them, by onnxruntime's profile."""
    sessions = _Profiled(folder / f"profile-{subject.name}")
    runtime = subject.runtime(folder, device, _NODE_ROWS, sessions)
    tokens = begin(runtime, subject, texts(subject, _NODE_ROWS, length=SOURCE))
    tokens = grow(runtime, tokens, 1).tolist()  # the first run makes what the others find
    runs = STEPS // 2
    grow(runtime, tokens, runs)
    events = json.loads(Path(sessions.profiled.end_profiling()).read_text())
    yield nodes_of_last_runs(events, runs)


def nodes_of_last_runs(events: Sequence[Mapping[str, Any]], runs: int) -> Findings:
    """Nodes a run by their provider, and the seconds of launching them."""
    begins = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    launched = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= begins[-runs]
    ]
    by_provider: dict[str, int] = {}
    for event in launched:
        name = event["args"].get("provider", "unknown")
        by_provider[name] = by_provider.get(name, 0) + 1
    return {
        "nodes_a_step": {name: count / runs for name, count in by_provider.items()},
        "seconds_of_launching": sum(event["dur"] for event in launched) / runs * 1e-6,
    }


def gaps(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Kernels and copies that a step launches on the GPU, and the share of time that the GPU is idle, by rows.

    The latter of the serving engine, in the second half of what it answers: there all requests are in, so that nothing
    but steps runs. As CUDA's own tracing has it, which torch offers for the whole process; its cost is in the gaps.
    """
    runtime = subject.runtime(folder, device, max(_ROWS))
    for rows in _ROWS:
        tokens = begin(runtime, subject, texts(subject, rows, length=SOURCE))
        tokens = grow(runtime, tokens, STEPS // 2).tolist()
        with _tracing(device) as trace:
            grow(runtime, tokens, STEPS // 2)
        yield {f"{rows} rows, step": {"launched_a_step": len(_spans(trace)) / (STEPS // 2)}}
    with serving(subject, runtime) as ours:
        for rows in _ROWS:
            yield {f"{rows} rows": _served_gaps(subject, device, ours, rows)}


def _served_gaps(subject: Subject, device: Device, ours: ServedEngine, rows: int) -> Findings:
    run = answering(ours, texts(subject, rows, length=SOURCE), 1, LONGEST - SOURCE)
    run()
    with _tracing(device) as trace:
        run()
    spans = _spans(trace)
    if not spans:
        return {"idle": None}
    middle = (min(spans)[0] + max(end for _, end in spans)) / 2
    return {"idle": idle_share([span for span in spans if span[0] >= middle])}


def idle_share(spans: Sequence[Span]) -> float | None:
    """Share of the time from the first begin to the last end that is in none of the spans; None: there are no spans."""
    if not spans:
        return None
    begin, covered, reached = min(spans)[0], 0.0, min(spans)[0]
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - covered / (reached - begin)


class _Profiled(Sessions):
    """Sessions of which the decoder's writes a profile."""

    def __init__(self, prefix: Path) -> None:
        super().__init__()
        self._prefix = prefix
        self.profiled: Any = None

    def of(self, graph: Path, device: Device = CPU, *, captured: bool = False, kernels: Path | None = None) -> Any:
        """As ``Sessions`` says; ``captured`` is the decoder's."""
        if not captured:
            return super().of(graph, device)
        lane_session(graph, device)  # loads the libraries; an error where a node would run elsewhere
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._prefix)
        options.log_severity_level = 3
        self.profiled = ort.InferenceSession(graph, options, providers=device.providers())
        return self.profiled


def _tracing(device: Device) -> Any:
    kinds = [torch.profiler.ProfilerActivity.CUDA] if device.kind == "cuda" and torch.cuda.is_available() else None
    return torch.profiler.profile(activities=kinds)


def _spans(trace: Any) -> list[Span]:
    return [
        (event.time_range.start, event.time_range.end)
        for event in trace.events()
        if str(event.device_type) == "DeviceType.CUDA"
    ]
