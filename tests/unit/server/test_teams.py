"""Threads that compute a step together: the same to the bit as one, whoever else computes and whoever sleeps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from dragoman_server.building import build_host
from dragoman_server.bundle import load_bundle
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.fusing.chain_library import ChainLibrary
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import Sessions
from dragoman_server.settings import Settings

if TYPE_CHECKING:
    from dragoman_server.engine import Engine

MODEL = Path(__file__).parents[3] / "models" / "deu-eng" / "1"
ROWS = 40
LONGER_THAN_AWAKE = 0.003
"""Seconds: helpers sleep by then."""


@pytest.fixture(autouse=True)
def _chains(compiled: Path) -> None:
    if not ChainLibrary(compiled).has_chains:
        pytest.skip("this processor has no instructions that chains are computed with")


def runtime(sessions: Sessions, kernels: Path | None) -> OnnxRuntime:
    bundle = load_bundle(MODEL, "int8")
    return OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=bundle.manifest.dimensions,
        limits=bundle.manifest.limits,
        max_rows=ROWS,
        kernels=kernels,
        sessions=sessions,
    )


def sources(count: int, seed: int) -> list[list[int]]:
    chance = np.random.default_rng(seed)
    return [[4, *chance.integers(10, 8000, chance.integers(1, 30)).tolist(), 3] for _ in range(count)]


def decoded(lane: OnnxRuntime, given: Sequence[Sequence[int]], *, pause: float = 0.0) -> list[bytes]:
    """All that encoding and six greedy steps of these sources give, to the bit."""
    lane.encode(range(len(given)), given)
    found = [array.tobytes() for row in range(len(given)) for array in lane.encoded(row)]
    tokens = np.full(len(given), 2)
    for number in range(6):
        time.sleep(pause)
        output = lane.step(tokens, with_logits=number == 3)
        found += [output.top_log_probs.tobytes(), output.top_ids.tobytes()]
        if output.logits is not None:
            found.append(output.logits.tobytes())
        tokens = output.top_ids[:, 0].copy()
    return found


@pytest.mark.parametrize("rows", [1, 4, 8, 9, ROWS])
@pytest.mark.parametrize("threads", [2, 5])
def test_a_lane_of_several_threads_computes_what_one_does(compiled: Path, rows: int, threads: int) -> None:
    alone, together = (runtime(Sessions(count), compiled) for count in (1, threads))
    for seed in range(5):
        given = sources(rows, seed)
        assert decoded(together, given) == decoded(alone, given)


def test_helpers_that_sleep_are_woken_and_nobody_waits_for_them(compiled: Path) -> None:
    alone, together = (runtime(Sessions(count), compiled) for count in (1, 3))
    given = sources(3, 1)
    assert decoded(together, given, pause=LONGER_THAN_AWAKE) == decoded(alone, given)


def test_lanes_that_share_sessions_have_helpers_of_their_own(compiled: Path) -> None:
    expected = [decoded(runtime(Sessions(1), compiled), sources(4, seed)) for seed in range(3)]
    shared = Sessions(2)
    lanes = [runtime(shared, compiled) for _ in range(3)]
    with ThreadPoolExecutor(len(lanes)) as threads:
        for _ in range(8):
            found = threads.map(decoded, lanes, [sources(4, seed) for seed in range(3)])
            assert list(found) == expected


def answered(lane_threads: int) -> list[Outcome]:
    """What an engine as a server sets it up says to greedy and beam requests, in their order."""
    host = build_host(1, load_bundle(MODEL, "int8"), Settings(lanes=2, max_rows=8, lane_threads=lane_threads))
    engine = cast("Engine", host.engine)
    engine.start()
    outcomes: list[SimpleQueue[Outcome]] = []
    for number, source in enumerate(sources(12, 4)):
        outcomes.append(SimpleQueue())
        engine.submit(Request(source, DecodingOptions(max_length=12, beam_size=1 + number % 4), outcomes[-1].put))
    found = [outcome.get(timeout=60) for outcome in outcomes]
    host.stop(0)
    return found


def test_the_setting_changes_no_answer() -> None:
    alone, together = answered(1), answered(3)
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one, Completion)
        assert isinstance(other, Completion)
        assert other.answers == one.answers


def test_onnxruntimes_own_operators_may_have_several_threads_too() -> None:
    alone, together = (runtime(Sessions(count), None) for count in (1, 2))
    given = sources(5, 2)
    assert decoded(together, given) == decoded(alone, given)
