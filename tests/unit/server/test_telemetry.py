from __future__ import annotations

import platform
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_server.engine import Engine
from dragoman_server.errors import Cancelled, Internal
from dragoman_server.explaining.explainer import Explainer
from dragoman_server.machine import heap
from dragoman_server.model_host import ModelHost, RunningEngine
from dragoman_server.telemetry.calls import Call, request_id
from dragoman_server.telemetry.collector import ServerCollector, registry
from dragoman_server.telemetry.histogram import Histogram
from dragoman_server.telemetry.loop_lag import LoopLag
from dragoman_server.telemetry.rpc_meter import RpcMeter
from tests.contract.conftest import FakeEngine, model
from tests.unit.server.fake_runtime import BREAK_STEP, FakeRuntime, Start, counting, submit, wait_for_step

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LANE = {"model": "deu-eng", "version": "7", "lane": "0"}


def host(engine: RunningEngine) -> ModelHost:
    made = model(FakeEngine())
    object.__setattr__(made, "engine", engine)
    return made


def shown(*engines: Engine, calls: RpcMeter | None = None, gpu: bool = False) -> CollectorRegistry:
    hosts = [host(engine) for engine in engines]
    return registry(ServerCollector(calls or RpcMeter(), LoopLag(), lambda: hosts, ready=lambda: True, gpu=gpu))


def value(found: CollectorRegistry, name: str, **labels: str) -> float | None:
    return found.get_sample_value(name, labels)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's malloc")
def test_the_heap_is_what_was_allocated() -> None:
    before = heap()
    kept = np.ones(8 << 20, np.uint8)
    held = heap()
    del kept
    after = heap()
    assert before is not None
    assert held is not None
    assert after is not None
    # Other threads of the tests may allocate a little meanwhile.
    assert held.used - before.used == pytest.approx(8 << 20, rel=0.1)
    assert after.used - before.used < 1 << 20
    shown_used = value(shown(), "dragoman_heap_bytes", state="used")
    assert shown_used is not None
    assert shown_used > 1 << 20
    assert value(shown(), "dragoman_heap_bytes", state="free") is not None


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100), min_size=1, unique=True).map(sorted))
def test_a_histogram_counts_every_value_below_its_bounds(values: list[float], bounds: list[float]) -> None:
    histogram = Histogram(bounds)
    for one in values:
        histogram.observe(one)
    buckets = histogram.buckets()
    assert [count for _, count in buckets[:-1]] == [sum(one <= bound for one in values) for bound in bounds]
    assert (buckets[-1][0], buckets[-1][1] - len(values)) == ("+Inf", 0)
    assert histogram.count == len(values)
    assert histogram.sum == sum(values)


def test_a_scripted_run_is_counted_exactly(start: Start) -> None:
    engine = start(FakeRuntime(4))
    callers = [counting(length) for length in (3, 5)]
    for caller in callers:  # one after the other: each step has one row
        submit(engine, caller)
        caller.completion()
    submit(engine, broken := counting(2, BREAK_STEP))
    assert isinstance(broken.result(), Internal)
    found = shown(engine)
    for outcome, count in {"completed": 2, "failed": 1, "cancelled": 0, "expired": 0}.items():
        assert value(found, "dragoman_requests_total", **LANE, outcome=outcome) == count
    assert value(found, "dragoman_source_tokens_total", **LANE) == 6
    assert value(found, "dragoman_nonfinite_rows_total", **LANE) == 0
    assert value(found, "dragoman_target_tokens_total", **LANE) == sum(
        len(answer.token_ids) for caller in callers for answer in caller.completion().answers
    )
    steps = sum(caller.completion().receipt.steps for caller in callers)
    assert steps == 10
    assert value(found, "dragoman_step_seconds_count", **LANE) == steps + 1  # the broken one had a step
    assert value(found, "dragoman_batch_rows_sum", **LANE) == steps + 1
    for name in ("queue", "time_to_first_token", "inter_token", "request"):
        assert value(found, f"dragoman_{name}_seconds_count", **LANE) == 2
    assert value(found, "dragoman_encode_seconds_count", **LANE) == 3
    assert value(found, "dragoman_rows", **LANE, state="free") == 4
    assert value(found, "dragoman_rows", **LANE, state="used") == 0
    assert value(found, "dragoman_running", **LANE) == 0
    assert value(found, "dragoman_waiting", model="deu-eng", version="7") == 0


def test_what_waits_runs_and_is_cancelled_is_seen(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, first, second = start(runtime), counting(50), counting(4)
    submit(engine, first)
    wait_for_step(runtime)
    submit(engine, second)
    found = shown(engine)
    assert value(found, "dragoman_running", **LANE) == 1
    assert value(found, "dragoman_rows", **LANE, state="used") == 1
    assert value(found, "dragoman_waiting", model="deu-eng", version="7") == 1
    assert value(found, "dragoman_waiting_tokens", model="deu-eng", version="7") == 3
    first.request.cancel()
    gate.release(1000)
    assert isinstance(first.result(), Cancelled)
    second.completion()
    assert value(found, "dragoman_requests_total", **LANE, outcome="cancelled") == 1


def test_calls_by_method_and_status() -> None:
    meter = RpcMeter()
    for code, refused in (("OK", ""), ("OK", ""), ("RESOURCE_EXHAUSTED", "queue_full")):
        call = Call("Translate", refused=refused, items={"OK": 2}, given_up=bool(refused))
        meter.begins(call)
        meter.ends(call, code, 0.25)
    meter.begins(Call("Translate"))
    found = shown(calls=meter)
    assert value(found, "dragoman_rpcs_total", rpc="Translate", code="OK") == 2
    assert value(found, "dragoman_rpcs_in_flight", rpc="Translate") == 1
    assert value(found, "dragoman_rpc_seconds_sum", rpc="Translate") == 0.75
    assert value(found, "dragoman_rpc_seconds_bucket", rpc="Translate", le="0.1") == 0
    assert value(found, "dragoman_rpc_seconds_bucket", rpc="Translate", le="0.25") == 3
    assert value(found, "dragoman_rpcs_refused_total", reason="queue_full") == 1
    assert value(found, "dragoman_bulk_items_total", code="OK") == 6
    assert value(found, "dragoman_slow_readers_total") == 1


def test_the_queue_of_explain_is_its_own(start: Start) -> None:
    explained = host(start(FakeRuntime(1)))
    explainer = Explainer(lambda: pytest.fail("nobody asks"), max_waiting=7)
    object.__setattr__(explained, "explainer", explainer)
    found = registry(ServerCollector(RpcMeter(), LoopLag(), lambda: [explained], ready=lambda: True, gpu=False))
    labels = {"model": "deu-eng", "version": "7"}
    assert value(found, "dragoman_explain_waiting", **labels) == 0
    assert value(found, "dragoman_explain_max_waiting", **labels) == 7
    assert value(found, "dragoman_explanations_total", **labels, outcome="completed") == 0
    assert value(found, "dragoman_explain_seconds_count", **labels) == 0


def test_a_gpu_that_is_not_used_is_told(start: Start) -> None:
    engine = start(FakeRuntime(1))
    assert value(shown(engine), "dragoman_gpu_missing") == 0
    assert value(shown(engine, gpu=True), "dragoman_gpu_missing") == 1


def test_names_follow_the_conventions_of_prometheus(start: Start) -> None:
    text = generate_latest(shown(start(FakeRuntime(1)))).decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"(dragoman|process)_[a-z0-9_]+", family.name)
        assert family.documentation
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
            for unit in ("_ms", "_milliseconds", "_mib", "_minutes"):
                assert unit not in sample.name


@given(st.lists(st.text(max_size=140), max_size=2))
def test_a_request_id_is_the_callers_only_if_it_is_harmless(given_ids: list[str]) -> None:
    made = request_id(given_ids)
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", made)
    if made in given_ids:
        assert len(given_ids) == 1
    else:
        assert len(given_ids) != 1 or not re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", given_ids[0])
