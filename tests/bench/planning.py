"""``python -m tests.bench.planning``: what the queueing model predicts, and what a server does at the same rates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dragoman_server.building import build_host
from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.logs import configure
from dragoman_server.planning.calling import Called
from dragoman_server.planning.closed_form import estimate
from dragoman_server.planning.measuring import measure, own_texts
from dragoman_server.planning.model import REQUESTS, Prediction, capacity, predict
from dragoman_server.planning.pilots import Pilots, at_random
from dragoman_server.planning.planner import Target, plan
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.server_process import serving
from dragoman_server.planning.subject import Subject, subject_of
from dragoman_server.planning.workload import Workload
from dragoman_server.settings import Settings
from tests.bench.results import FOLDER, ROOT, Result, Table, verdict

WITHIN = 0.2
SHARES = (0.2, 0.4, 0.55, 0.65, 0.75, 0.85, 1.3)
"""Of the rate that the model takes for the most; none is one of the pilots'."""
_WARM_UP_SECONDS = 2.0
_PILOT_SECONDS = 4.0
"""As `dragoman plan` takes."""


def main(
    model: Annotated[str, typer.Option(help="Of those under models/.")] = "deu-eng",
    seconds: Annotated[float, typer.Option(min=3.0, help="Of each rate.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of each rate; what is compared is their median.")] = 5,
    output: Annotated[Path, typer.Option(help="Where planning.json and planning.png go.")] = FOLDER,
) -> None:
    """Measure the profile, then the server at several rates, each with requests of its own."""
    configure("warning", "console")
    settings = Settings()
    bundle = load_bundle(ROOT / "models" / model / "1", settings.precision)
    profile = measure(bundle, settings, pilot_rounds=0)
    workload = Workload.measured(profile, local=True)
    subject = _subject(bundle, settings)
    most = capacity(profile, workload)
    rates = [share * most for share in SHARES]
    measured: list[list[dict[str, float]]] = [[] for _ in rates]
    with serving(bundle.path, model, settings) as address:
        pilots = Pilots(address, subject, profile)
        for turn in range(rounds):
            # Turn by turn with what they predict: the machine is not as fast at one time as at another.
            pilots.round(_PILOT_SECONDS)
            for number, rate in enumerate(rates):
                called = asyncio.run(at_random(address, subject, rate, _WARM_UP_SECONDS + seconds, 100 * number + turn))
                measured[number].append(_figures(called, profile.cores))
                print(f"{rate:8.1f} requests/s, round {turn + 1}: {measured[number][-1]}", flush=True)
    profile = profile.model_copy(update={"pilots": pilots.found()})
    # A queue that only grows is as long as the run: there the model gets as many requests as the server.
    counts = [_count(rate, seconds) if rate > most else REQUESTS for rate in rates]
    predictions = [predict(profile, workload, rate, requests=n) for rate, n in zip(rates, counts, strict=True)]
    _publish(profile, workload, predictions, measured, {"seconds": seconds, "rounds": rounds}, output)


def _subject(bundle: LoadedBundle, settings: Settings) -> Subject:
    host = build_host(1, bundle, settings.model_copy(update={"lanes": 1, "max_rows": 1}))
    return subject_of(host, own_texts())


def _count(rate: float, seconds: float) -> int:
    return max(100, int(rate * (_WARM_UP_SECONDS + seconds)))


def _figures(called: Called, cores: int) -> dict[str, float]:
    """Of the calls that were due after the warm-up; throughput while calls were due."""
    due = called.answered_at - called.latencies
    counted = np.isfinite(called.latencies) & (due >= _WARM_UP_SECONDS)
    last = float(np.nanmax(due))
    answered = called.answered_at[np.isfinite(called.answered_at)]
    meanwhile = np.count_nonzero((answered >= _WARM_UP_SECONDS) & (answered <= last))
    p50, p95, p99 = np.percentile(called.latencies[counted], [50, 95, 99]) * 1e3
    return {
        "throughput": float(meanwhile / (last - _WARM_UP_SECONDS)),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "mean_ms": float(called.latencies[counted].mean() * 1e3),
        "refused": float(np.mean(~np.isfinite(called.latencies))),
        "caller_cores": called.cpu_seconds / called.seconds / cores,
    }


def _kept(
    profile: Profile, workload: Workload, rates: Sequence[float], real: Sequence[float]
) -> list[tuple[float, float, float]]:
    """(p99, the rate that a plan promises within it, the rate that kept it), for p99s between two measured ones.

    ``real`` are the measured p99s at ``rates``, which ascend.
    """
    found = []
    for (low, first), (high, second) in pairwise(zip(rates, real, strict=True)):
        if first >= second:
            continue
        wanted = (first * second) ** 0.5
        kept = low + (high - low) / 2  # where the logarithm of the p99 is half-way
        promised = plan(profile, workload, Target(1.0, wanted)).capacity
        found.append((wanted, promised, kept))
    return found


def _compared(found: Sequence[dict[str, float]], key: str, predicted: float, digits: int) -> list[str]:
    """Cells: what was predicted, what was measured (least and largest), and the error."""
    real = [one[key] for one in found]
    median = float(np.median(real))
    measured = f"{median:,.{digits}f} ({min(real):,.{digits}f}-{max(real):,.{digits}f})"
    return [f"{predicted:,.{digits}f}", measured, f"{predicted / median - 1:+.0%}"]


def _publish(  # noqa: PLR0917  (as its one caller has them)
    profile: Profile,
    workload: Workload,
    predictions: Sequence[Prediction],
    measured: Sequence[Sequence[dict[str, float]]],
    settings: dict[str, Any],
    output: Path,
) -> None:
    rows, errors = [], []
    for predicted, found in zip(predictions, measured, strict=True):
        real = {key: float(np.median([one[key] for one in found])) for key in found[0]}
        formula = estimate(profile, workload, predicted.rate)
        off = {"throughput": predicted.throughput / real["throughput"] - 1}
        cells = [f"{predicted.rate:,.0f}", *_compared(found, "throughput", predicted.throughput, 0)]
        for key in ("p50_ms", "p99_ms"):
            if predicted.overloaded:
                cells += ["", _compared(found, key, real[key], 1)[1], ""]
            else:
                cells += _compared(found, key, getattr(predicted, key), 1)
                off[key] = getattr(predicted, key) / real[key] - 1
        errors.append(off)
        mean = "" if predicted.overloaded else f"{formula.mean_ms:,.1f}"
        cells += [f"{predicted.utilisation:.0%}", mean, f"{real['mean_ms']:,.1f}"]
        cells.append(verdict(max(map(abs, off.values())), WITHIN, at_most=True))
        rows.append(cells)
    columns = ["requests/s", "answers/s, predicted", "measured", "error", "p50 ms, predicted", "measured", "error"]
    columns += ["p99 ms, predicted", "measured", "error", "cores", "mean ms, formula", "mean ms, measured"]
    columns.append(f"within {WITHIN:.0%}")
    title = f"{profile.model}, {profile.lanes} lanes of {profile.max_rows} rows, through gRPC"
    within = [number for number, predicted in enumerate(predictions) if not predicted.overloaded]
    p99s = [float(np.median([one["p99_ms"] for one in measured[number]])) for number in within]
    kept = _kept(profile, workload, [predictions[number].rate for number in within], p99s)
    promises = []
    for p99, promised, real_rate in kept:
        off_by = promised / real_rate - 1
        met = verdict(abs(off_by), WITHIN, at_most=True)
        promises.append([f"{p99:,.0f}", f"{promised:,.0f}", f"{real_rate:,.0f}", f"{off_by:+.0%}", met])
    Result(
        "planning",
        settings,
        {
            "profile": profile.model_dump(),
            "predicted": [asdict(one) for one in predictions],
            "measured": [list(found) for found in measured],
            "errors": errors,
            "kept": kept,
        },
        [
            Table(title, columns, rows),
            Table(
                "What one server answers within a p99",
                ["p99, ms", "requests/s, planned", "measured", "error", f"within {WITHIN:.0%}"],
                promises,
            ),
        ],
        [
            "Poisson arrivals, lengths at random, each call counted from the moment at which it was due.",
            "The caller runs on the same cores; its time is part of the prediction. Medians of the rounds, least and "
            "largest in brackets.",
            "Measured rates of a p99 lie half-way between the two rates whose p99s it lies between, geometrically.",
            "The last rate is more than the server can answer: latency is what the queue's bound leaves of it, and "
            "only throughput is predicted.",
            "Before each round of these rates the pilots of the prediction had one.",
        ],
    ).publish(output)


if __name__ == "__main__":
    typer.run(main)
