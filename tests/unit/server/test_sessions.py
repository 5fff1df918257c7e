"""Sessions that lanes share: one of each graph, run by several threads at once, says what it says to one alone."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dragoman_protos.onnx.graph_pb2 import GraphProto, ModelProto, StringStringEntryProto, TensorProto
from dragoman_server.bundle import load_bundle
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import Sessions
from dragoman_server.shared_weights import SharedWeights

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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are read from /proc")
def test_weights_that_graphs_share_are_mapped_once_and_as_long_as_a_session_reads_them(compiled: Path) -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")

    def mapped() -> int:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        return sum(line.endswith("deu-eng/1/int8/embedding.bin") for line in lines)

    gc.collect()
    before = mapped()
    sessions = Sessions()
    made = [sessions.of(graph, kernels=kernels) for graph in bundle.graphs.values() for kernels in (compiled, None)]
    assert len({id(session) for session in made}) == 4
    assert mapped() == before + 1
    del sessions
    gc.collect()
    assert mapped() == before + 1
    made.clear()
    gc.collect()
    assert mapped() == before


def test_weights_are_found_where_the_graph_says(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.float32)
    (tmp_path / "all.bin").write_bytes(numbers.tobytes())
    outside = [
        tensor("first", [2, 3], 1, offset="0"),
        tensor("second", [4], 1, offset="32"),
        tensor("again", [2, 3], 1, offset="0"),
        tensor("other type", [2], 16, offset="0"),
        tensor("askew", [2], 1, offset="2"),
    ]
    inside = TensorProto(name="inside", dims=[1], data_type=1, raw_data=bytes(4))
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(ModelProto(graph=GraphProto(initializer=[*outside, inside])).SerializeToString())
    weights = SharedWeights()
    found = weights.of(graph)
    assert set(found) == {"first", "second", "again"}
    assert found["first"] is found["again"] is weights.of(graph)["first"]
    np.testing.assert_array_equal(found["first"].numpy(), numbers[:6].reshape(2, 3))
    np.testing.assert_array_equal(found["second"].numpy(), numbers[8:12])


def tensor(name: str, dims: list[int], kind: int, *, offset: str) -> TensorProto:
    entries = {"location": "all.bin", "offset": offset, "length": "unread"}
    external = [StringStringEntryProto(key=key, value=value) for key, value in entries.items()]
    return TensorProto(name=name, dims=dims, data_type=kind, data_location=1, external_data=external)


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
