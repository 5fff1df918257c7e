"""What ``dragoman plan`` prints."""

from __future__ import annotations

from dataclasses import asdict

from dragoman_server.planning.planner import Plan
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.workload import Workload

_MIB = 1 << 20


def as_json(found: Plan, known: Profile, workload: Workload) -> dict[str, object]:
    """Everything, in one object."""
    return {
        "model": known.model,
        "precision": known.precision,
        "machine": {"processor": known.machine, "cores": known.cores},
        "replicas": found.replicas,
        "lanes": found.lanes,
        "max_rows": found.max_rows,
        "memory_bytes": found.memory,
        "prediction": asdict(found.prediction),
        "capacity": found.capacity,
        "headroom": found.headroom,
        "floor_ms": found.floor_ms,
        "mean_source_tokens": workload.mean_source,
        "mean_steps": workload.mean_steps,
    }


def text(found: Plan, known: Profile, workload: Workload, p99_ms: float) -> str:
    """For people; ``p99_ms`` was asked for."""
    predicted = found.prediction
    each = "each " if found.replicas > 1 else ""
    lanes = "1 lane" if found.lanes == 1 else f"{found.lanes} lanes"
    cores = "1 core" if known.cores == 1 else f"{known.cores} cores"
    return "\n".join(
        [
            f"{known.model} version {known.version}, {known.precision}, on {known.machine or 'this machine'}, {cores}",
            f"  asked for   {predicted.rate:g} requests/s of {workload.mean_source:.1f} tokens and "
            f"{workload.mean_steps:.1f} steps on average, 99 of 100 within {p99_ms:g} ms",
            f"  replicas    {found.replicas}, {each}{lanes} of {found.max_rows} rows, {found.memory / _MIB:,.0f} MiB",
            f"  predicted   p50 {predicted.p50_ms:.1f} ms, p95 {predicted.p95_ms:.1f} ms, "
            f"p99 {predicted.p99_ms:.1f} ms; {predicted.utilisation:.0%} of the cores' time",
            f"  headroom    {found.headroom:.0%}: kept up to {found.capacity:.0f} requests/s",
            f"  floor       {found.floor_ms:.1f} ms: 99 of 100 requests that have a server to themselves",
        ]
    )
