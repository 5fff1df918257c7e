"""What the queueing model (docs/planning.md) foretells of the points that were measured: drawn beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from dragoman.load.measurement import Forecast, Measurement
from dragoman.load.queries import CLASSIFY, Query
from dragoman.load.result import LoadResult
from dragoman.load.workload import workload
from dragoman.values import Model
from dragoman_protos.v1 import inference_pb2
from dragoman_server.bundle import load_bundle
from dragoman_server.planning.measuring import measure
from dragoman_server.planning.model import predict
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.workload import Workload
from dragoman_server.settings import Settings
from tests.bench.ours import OurSettings
from tests.bench.results import ROOT

FORETOLD = {"mixed": "deu-eng", "classify": "intents"}
"""Workloads of which each request is one text for one model, and that model."""
_SEEDS = range(1, 6)
"""Of the simulated runs whose median is the forecast."""
_LEAST = 200
"""Requests of a simulated run."""


def profiles(names: Sequence[str], settings: OurSettings, seed: int, size: int) -> dict[str, Profile]:
    """By workload: its model measured on this machine with the workload's own texts."""
    found = {}
    for name in names:
        asked = workload(name, [_served(name)], seed=seed, size=size)
        bundle = load_bundle(ROOT / "models" / FORETOLD[name] / "1", "int8")
        how = Settings(lanes=settings.lanes, max_rows=settings.max_rows)
        found[name] = measure(bundle, how, texts=[_text(query) for query in asked.queries()])
    return found


def foretold(result: LoadResult, profile: Profile) -> LoadResult:
    """The result with a forecast of each open loop; the callers share the server's machine."""
    asked = Workload.measured(profile, local=True)
    points = [
        replace(point, forecast=_forecast(profile, asked, point, result.warm_up)) if point.mode == "open" else point
        for point in result.points
    ]
    return replace(result, points=points)


def _forecast(profile: Profile, asked: Workload, point: Measurement, warm_up: float) -> Forecast:
    """Of runs as long as the measured one: beyond the capacity the queue grows for as long as requests come."""
    requests = max(_LEAST, round(point.offered * (warm_up + point.seconds)))
    runs = [predict(profile, asked, point.offered, requests=requests, seed=seed) for seed in _SEEDS]
    return Forecast(
        throughput=median(run.throughput for run in runs),
        utilisation=median(run.utilisation for run in runs),
        p50_ms=median(run.p50_ms for run in runs),
        p95_ms=median(run.p95_ms for run in runs),
        p99_ms=median(run.p99_ms for run in runs),
    )


def _served(name: str) -> Model:
    """A model that can do what the workload asks for."""
    task = "classify" if name == "classify" else "translate"
    return Model(FORETOLD[name], "1", "", (task,), ("de", "en"), "int8", "", 1, 1, default=True)


def _text(query: Query) -> str:
    kind = inference_pb2.ClassifyRequest if query.call is CLASSIFY else inference_pb2.TranslateRequest
    return kind.FromString(query.message).text
