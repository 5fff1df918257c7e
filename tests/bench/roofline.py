"""The roofline: what a decoder step must move and do, this machine's measured ceilings, and the share reached.

Ceilings are measured with as many threads as there are lanes: 8-bit products through onnxruntime's own operator on
large matrices, float32 products likewise, bandwidth by copying far more than the caches hold, and less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import typer
from onnx import TensorProto, helper

from dragoman_server.bundle import load_bundle
from dragoman_server.graphs import CACHE_TYPES
from dragoman_server.machine import usable_cores
from dragoman_server.runtime import Runtime
from tests.bench.charts import bars
from tests.bench.models import bench_model
from tests.bench.options import MODELS, OUTPUT, ROUNDS, Models, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.random_base import FIRST_WORD, TAG_ID
from tests.bench.results import Result, Table
from tests.bench.rounds import Spread, quiet
from tests.bench.session_clock import Clock, watch
from tests.bench.step_costs import Ceilings, Sizes, decoder_step, least_seconds

ROWS = (1, 4, 16, 64, 128)
_TARGET, _SOURCE = 24, 24
"""Steps that every row takes, and tokens of its source."""
_EOS = 3
_COPIED, _COPIED_IN_CACHE = 256 << 20, 8 << 20
"""Bytes that are read and written, all threads together: far more than the last cache holds, and less."""
_MATRIX = 1024


def main(rounds: Rounds = ROUNDS, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    threads = sorted({1, usable_cores()})
    ceilings = {count: measured_ceilings(count) for count in threads}
    rows: list[list[str]] = []
    data: dict[str, Any] = {"ceilings": {str(count): asdict(found) for count, found in ceilings.items()}, "steps": []}
    charted: dict[str, list[Spread | None]] = {}
    for name in model:
        sizes = _sizes(bench_model(name).bundle)
        for count in threads:
            shown = charted.setdefault(f"{name}, {count} lane{'s' * (count > 1)}", [])
            for number in ROWS:
                step = decoder_step(sizes, rows=number, target_length=_TARGET / 2, source_length=_SOURCE)
                least, bound = least_seconds(step, ceilings[count])
                found = Spread.of(_step_seconds(name, number, count, rounds))
                share = Spread(least / found.median, least / found.high, least / found.low)
                shown.append(share)
                data["steps"].append(
                    {
                        "model": name,
                        "lanes": count,
                        "rows_of_a_lane": number,
                        "step": asdict(step),
                        "least_seconds": least,
                        "bound": bound,
                        "measured_seconds": asdict(found),
                    }
                )
                rows.append(
                    [
                        name,
                        str(count),
                        str(number),
                        f"{step.bytes / 1e6:.1f}",
                        f"{(step.linear_operations + step.attention_operations) / 1e9:.2f}",
                        f"{least * 1e3:.3f}",
                        bound,
                        Spread(found.median * 1e3, found.low * 1e3, found.high * 1e3).text(3),
                        f"{share.median:.0%}",
                    ]
                )
    columns = ["model", "lanes", "rows of a lane", "MB", "Gop", "least, ms", "bound by", "step, ms", "share reached"]
    Result(
        "roofline",
        {"rounds": rounds, "target_length": _TARGET, "source_length": _SOURCE},
        data,
        [
            Table(
                "Ceilings of one thread, while so many do the same",
                ["threads", "int8, Gop/s", "float32, Gflop/s", "memory, GB/s", "last cache, GB/s"],
                [[str(n), *(f"{v / 1e9:,.0f}" for v in _ceilings(c))] for n, c in ceilings.items()],
            ),
            Table("A decoder step against its roofline", columns, rows),
        ],
        [
            "Where all that a step touches fits into the lane's share of the last cache, its bandwidth counts.",
            "The step is onnxruntime's run alone, all rows live; what lies around it is in `profile`.",
        ],
    ).publish(output)
    bars(
        output / "roofline.png",
        [f"{number} rows" for number in ROWS],
        charted,
        title="Decoder step: share of the roofline reached",
        label="least time / measured time",
    )


def _ceilings(found: Ceilings) -> tuple[float, ...]:
    return found.int8_operations, found.float_operations, found.bandwidth, found.cache_bandwidth


def _sizes(bundle: Path) -> Sizes:
    loaded = load_bundle(bundle, "int8")
    inputs = ort.InferenceSession(loaded.decoder, providers=["CPUExecutionProvider"]).get_inputs()
    cache = next(port.type for port in inputs if port.name.startswith("past_"))
    d = loaded.manifest.dimensions
    return Sizes(d.vocabulary, d.d_model, d.d_ff, d.decoder_layers, np.dtype(CACHE_TYPES[cache]).itemsize)


def _step_seconds(name: str, rows: int, lanes: int, rounds: int) -> list[float]:
    """Of each round, the median time of the decoder's run while ``rows`` rows live in every lane."""
    clock = Clock()
    source = [TAG_ID, *range(FIRST_WORD, FIRST_WORD + _SOURCE - 2), _EOS]
    barrier = threading.Barrier(lanes)
    found: list[list[float]] = [[] for _ in range(rounds + 1)]
    with Ours(bench_model(name).repository, name, OurSettings(lanes, max_rows=rows)) as ours, quiet():

        def drive(runtime: Runtime) -> None:
            watch(runtime, clock)
            for seconds in found:
                runtime.encode(list(range(rows)), [source] * rows)
                barrier.wait()
                clock.spans.pop(threading.get_ident(), None)  # the encoder's
                for _ in range(_TARGET):
                    runtime.step([TAG_ID] * rows)
                seconds += [span.ended - span.began for span in clock.spans.pop(threading.get_ident())]

        workers = [threading.Thread(target=drive, args=(runtime,)) for runtime in ours.runtimes()]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return [float(np.median(seconds)) for seconds in found[1:]]


def measured_ceilings(threads: int) -> Ceilings:
    """What each of so many threads reaches, all at work."""
    matrix = _int8_product()
    square = np.ones((_MATRIX, _MATRIX), np.float32)
    operations = 2 * _MATRIX**3
    large, small = _COPIED // 2 // threads, _COPIED_IN_CACHE // 2 // threads

    def copying(size: int, times: int) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)

            def call() -> None:
                for _ in range(times):
                    np.copyto(target, source)

            return call

        return make

    return Ceilings(
        int8_operations=operations / _together(threads, lambda: matrix),
        float_operations=operations / _together(threads, _float_product(square)),
        bandwidth=2 * large / _together(threads, copying(large, 1)),
        cache_bandwidth=2 * small * 50 / _together(threads, copying(small, 50)),
        cache_bytes=_last_cache() / threads,
    )


def _last_cache() -> int:
    """Bytes of the processor's largest cache; 0 where the system does not say."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * {"K": 1 << 10, "M": 1 << 20}[size[-1]] for size in sizes), default=0)


def _float_product(square: np.ndarray[Any, Any]) -> Callable[[], Callable[[], object]]:
    session = _one_thread(
        helper.make_graph(
            [helper.make_node("MatMul", ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.FLOAT, [_MATRIX, _MATRIX])],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, [_MATRIX, _MATRIX])],
            [helper.make_tensor("b", TensorProto.FLOAT, square.shape, square.tobytes(), raw=True)],
        )
    )
    return lambda: lambda: session.run(None, {"a": square})


def _int8_product() -> Callable[[], object]:
    """Large matrices through the operator that the int8 graphs are made of."""
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.01])
    weights = np.ones((_MATRIX, _MATRIX), np.int8)
    inputs = np.ones((_MATRIX, _MATRIX), np.uint8)
    session = _one_thread(
        helper.make_graph(
            [helper.make_node("MatMulIntegerToFloat", ["a", "b", "s", "s", "za", "zb"], ["c"], domain="com.microsoft")],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [_MATRIX, _MATRIX])],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, [_MATRIX, _MATRIX])],
            [
                helper.make_tensor("b", TensorProto.INT8, weights.shape, weights.tobytes(), raw=True),
                scale,
                helper.make_tensor("za", TensorProto.UINT8, [], [128]),
                helper.make_tensor("zb", TensorProto.INT8, [], [0]),
            ],
        )
    )
    return lambda: session.run(None, {"a": inputs})


def _one_thread(graph: onnx.GraphProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _together(threads: int, make: Callable[[], Callable[[], object]], repeats: int = 8) -> float:
    """Median seconds of a call while so many threads make it; each thread has what ``make`` gives it."""
    found: list[float] = []
    barrier = threading.Barrier(threads)

    def work() -> None:
        call = make()
        call()
        barrier.wait()
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return float(np.median(found))


if __name__ == "__main__":
    typer.run(main)
