"""Sessions that lanes share: one of each graph, run by several threads at once, says what it says to one alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dragoman_server.bundle import load_bundle
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import Sessions

MODELS = Path(__file__).parents[3] / "models"
LANES, ROWS, STEPS, ROUNDS = 3, 6, 12, 5


def test_a_graph_has_one_session_for_each_library_of_operators(compiled: Path) -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")
    sessions = Sessions()
    first = sessions.of(bundle.encoder, kernels=compiled)
    assert sessions.of(bundle.encoder, kernels=compiled) is first
    assert sessions.of(bundle.encoder) is not first
    assert sessions.of(bundle.decoder, kernels=compiled) is not first
    assert Sessions().of(bundle.encoder, kernels=compiled) is not first


@pytest.mark.parametrize("operators", ["compiled", "builtin"])
def test_lanes_that_run_a_session_at_once_say_what_one_says_alone(compiled: Path, operators: str) -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")
    manifest = bundle.manifest
    random = np.random.default_rng(11)
    vocabulary = manifest.dimensions.vocabulary

    def runtime(sessions: Sessions) -> OnnxRuntime:
        return OnnxRuntime(
            bundle.encoder,
            bundle.decoder,
            dimensions=manifest.dimensions,
            limits=manifest.limits,
            max_rows=ROWS,
            kernels=compiled if operators == "compiled" else None,
            sessions=sessions,
        )

    # Each lane has other sources, of other lengths, and another number of rows.
    work = [
        (
            [random.integers(10, vocabulary, random.integers(1, 60)).tolist() for _ in range(ROWS - lane)],
            random.integers(10, vocabulary, (STEPS, ROWS - lane)),
        )
        for lane in range(LANES)
    ]

    def decoded(lane: int, made: OnnxRuntime) -> list[bytes]:
        sources, fed = work[lane]
        made.encode(range(len(sources)), sources)
        found = []
        for tokens in fed:
            output = made.step(tokens)
            found.append(output.top_log_probs.tobytes() + output.top_ids.tobytes())
        return found

    alone = [decoded(lane, runtime(Sessions())) for lane in range(LANES)]
    sessions = Sessions()
    lanes = [runtime(sessions) for _ in range(LANES)]
    with ThreadPoolExecutor(LANES) as threads:
        for _ in range(ROUNDS):
            assert list(threads.map(decoded, range(LANES), lanes)) == alone
