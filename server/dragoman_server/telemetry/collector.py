"""All that is measured, as Prometheus reads it. Loaded by the HTTP port alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dragoman_server.device import CUDA_PROVIDER
from dragoman_server.lanes import EngineState
from dragoman_server.machine import has_nvidia_gpu, heap
from dragoman_server.model_host import ModelHost
from dragoman_server.telemetry.explain_meter import ExplainState
from dragoman_server.telemetry.histogram import Histogram
from dragoman_server.telemetry.lane_meter import LaneMeter
from dragoman_server.telemetry.loop_lag import LoopLag
from dragoman_server.telemetry.rpc_meter import RpcMeter

_MODEL = ("model", "version")
_LANE = (*_MODEL, "lane")
_Reading = tuple[ModelHost, EngineState]

_LANE_HISTOGRAMS: Sequence[tuple[str, str, Callable[[LaneMeter], Histogram]]] = (
    ("step_seconds", "From the end of one step to that of the next, without encoding", lambda m: m.step_seconds),
    ("batch_rows", "Live rows of a step, or texts of a pass", lambda m: m.batch_rows),
    ("encode_seconds", "Encoding of a group of sources, of a whole prompt, or a pass", lambda m: m.encode_seconds),
    ("queue_seconds", "What answered requests waited for their rows", lambda m: m.queue_seconds),
    ("time_to_first_token_seconds", "From arrival to the end of the first step", lambda m: m.first_token_seconds),
    ("inter_token_seconds", "Between two steps, on average over a request", lambda m: m.token_seconds),
    ("request_seconds", "From arrival at the engine to the answer", lambda m: m.request_seconds),
)
_LANE_COUNTERS: Sequence[tuple[str, str, Callable[[LaneMeter], int]]] = (
    ("source_tokens", "Tokens that the models read, of answered requests", lambda m: m.source_tokens),
    ("target_tokens", "Tokens of all answers", lambda m: m.target_tokens),
    ("nonfinite_rows", "Rows, or texts of a pass, for which a model gave NaN or infinity", lambda m: m.nonfinite_rows),
)
_OUTCOMES: Sequence[tuple[str, Callable[[LaneMeter], int]]] = (
    ("completed", lambda m: m.completed),
    ("cancelled", lambda m: m.cancelled),
    ("expired", lambda m: m.expired),
    ("failed", lambda m: m.failed),
)


class ServerCollector(Collector):
    """Reads the calls' meter, the event loop's lag and, of each of ``hosts()``, the engine."""

    def __init__(
        self,
        calls: RpcMeter,
        lag: LoopLag,
        hosts: Callable[[], Iterable[ModelHost]],
        *,
        ready: Callable[[], bool],
        gpu: bool | None = None,
    ) -> None:
        self._calls = calls
        self._lag = lag
        self._hosts = hosts
        self._ready = ready
        self._gpu = has_nvidia_gpu() if gpu is None else gpu

    def collect(self) -> Iterator[Metric]:
        """Everything, by family; any thread."""
        yield GaugeMetricFamily("dragoman_ready", "Whether requests are answered", value=float(self._ready()))
        yield from self._of_calls()
        lag = HistogramMetricFamily("dragoman_event_loop_lag_seconds", "How late the event loop is")
        lag.add_metric([], self._lag.seconds.buckets(), self._lag.seconds.sum)
        yield lag
        yield from _of_heap()
        readings = [(host, host.engine.state()) for host in self._hosts()]
        yield from self._of_models(readings)
        yield from _of_engines(readings)
        yield from _of_lanes(readings)
        yield from _of_explainers(
            [(host, host.explainer.state()) for host, _ in readings if host.explainer is not None]
        )

    def _of_calls(self) -> Iterator[Metric]:
        calls = self._calls
        ended = CounterMetricFamily("dragoman_rpcs", "Calls that have ended", labels=("rpc", "code"))
        for (rpc, code), count in list(calls.ended.items()):
            ended.add_metric([rpc, code], count)
        running = GaugeMetricFamily("dragoman_rpcs_in_flight", "Calls inside", labels=("rpc",))
        for rpc, count in list(calls.running.items()):
            running.add_metric([rpc], count)
        seconds = HistogramMetricFamily("dragoman_rpc_seconds", "From a call's arrival to its end", labels=("rpc",))
        for rpc, histogram in list(calls.seconds.items()):
            seconds.add_metric([rpc], histogram.buckets(), histogram.sum)
        refused = CounterMetricFamily("dragoman_rpcs_refused", "Calls that could not be taken", labels=("reason",))
        for reason, count in list(calls.refused.items()):
            refused.add_metric([reason], count)
        slow = CounterMetricFamily("dragoman_slow_readers", "Streams that nobody read", value=calls.slow_readers)
        items = CounterMetricFamily("dragoman_bulk_items", "Answered items of TranslateMany", labels=("code",))
        for code, count in list(calls.items.items()):
            items.add_metric([code], count)
        yield from (ended, running, seconds, refused, slow, items)

    def _of_models(self, readings: Sequence[_Reading]) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "dragoman_model_info", "How a model is served; always 1", labels=(*_MODEL, "precision", "provider")
        )
        missing = GaugeMetricFamily("dragoman_gpu_missing", "1: the machine has a GPU, the model runs without")
        for host, _ in readings:
            info.add_metric([host.name, host.version, host.precision, host.provider], 1.0)
        away = self._gpu and any(host.provider != CUDA_PROVIDER for host, _ in readings)
        missing.add_metric([], float(away))
        yield from (info, missing)


def _of_heap() -> Iterator[Metric]:
    found = heap()
    if found is not None:
        gauge = GaugeMetricFamily("dragoman_heap_bytes", "Memory from malloc, used and free", labels=("state",))
        gauge.add_metric(["used"], found.used)
        gauge.add_metric(["free"], found.free)
        yield gauge


def _of_engines(readings: Sequence[_Reading]) -> Iterator[Metric]:
    gauges: Sequence[tuple[str, str, Callable[[EngineState], int]]] = (
        ("waiting", "Requests in the queue", lambda state: state.waiting),
        ("waiting_tokens", "Source tokens in the queue", lambda state: state.waiting_tokens),
        ("max_waiting", "Requests that the queue has room for", lambda state: state.max_waiting),
    )
    for name, text, read in gauges:
        gauge = GaugeMetricFamily(f"dragoman_{name}", text, labels=_MODEL)
        for host, state in readings:
            gauge.add_metric([host.name, host.version], read(state))
        yield gauge
    asked = "Requests that an engine did not take, each time that it was asked"
    refused = CounterMetricFamily("dragoman_engine_refusals", asked, labels=(*_MODEL, "reason"))
    for host, state in readings:
        for reason, count in state.refused.items():
            refused.add_metric([host.name, host.version, reason], count)
    yield refused


def _of_lanes(readings: Sequence[_Reading]) -> Iterator[Metric]:
    lanes = [
        ([host.name, host.version, str(number)], lane)
        for host, state in readings
        for number, lane in enumerate(state.lanes)
    ]
    running = GaugeMetricFamily("dragoman_running", "Requests in a lane", labels=_LANE)
    rows = GaugeMetricFamily("dragoman_rows", "Rows of a lane, used and free", labels=(*_LANE, "state"))
    ended = CounterMetricFamily("dragoman_requests", "Requests that have ended in a lane", labels=(*_LANE, "outcome"))
    for labels, lane in lanes:
        running.add_metric(labels, lane.running)
        rows.add_metric([*labels, "used"], lane.rows_used)
        rows.add_metric([*labels, "free"], lane.rows_free)
        for outcome, of in _OUTCOMES:
            ended.add_metric([*labels, outcome], of(lane.meter))
    yield from (running, rows, ended)
    for name, text, of in _LANE_COUNTERS:
        counter = CounterMetricFamily(f"dragoman_{name}", text, labels=_LANE)
        for labels, lane in lanes:
            counter.add_metric(labels, of(lane.meter))
        yield counter
    for name, text, histogram_of in _LANE_HISTOGRAMS:
        family = HistogramMetricFamily(f"dragoman_{name}", text, labels=_LANE)
        for labels, lane in lanes:
            histogram = histogram_of(lane.meter)
            family.add_metric(labels, histogram.buckets(), histogram.sum)
        yield family


def _of_explainers(readings: Sequence[tuple[ModelHost, ExplainState]]) -> Iterator[Metric]:
    """Explain's own queue: one thread for each model, apart from the lanes."""
    waiting = GaugeMetricFamily("dragoman_explain_waiting", "Requests to explain in the queue", labels=_MODEL)
    most = GaugeMetricFamily("dragoman_explain_max_waiting", "Requests that it has room for", labels=_MODEL)
    running = GaugeMetricFamily("dragoman_explain_running", "Requests that are being explained", labels=_MODEL)
    refused = CounterMetricFamily("dragoman_explain_refusals", "Requests that found it full", labels=_MODEL)
    ended = CounterMetricFamily("dragoman_explanations", "Requests that left it", labels=(*_MODEL, "outcome"))
    queued = HistogramMetricFamily("dragoman_explain_queue_seconds", "What they had waited", labels=_MODEL)
    seconds = HistogramMetricFamily("dragoman_explain_seconds", "What explaining took", labels=_MODEL)
    for host, state in readings:
        labels, meter = [host.name, host.version], state.meter
        waiting.add_metric(labels, state.waiting)
        most.add_metric(labels, state.max_waiting)
        running.add_metric(labels, state.running)
        refused.add_metric(labels, meter.refused)
        for outcome in ("completed", "cancelled", "expired", "failed"):
            ended.add_metric([*labels, outcome], getattr(meter, outcome))
        queued.add_metric(labels, meter.queue_seconds.buckets(), meter.queue_seconds.sum)
        seconds.add_metric(labels, meter.seconds.buckets(), meter.seconds.sum)
    yield from (waiting, most, running, refused, ended, queued, seconds)


def registry(collector: Collector) -> CollectorRegistry:
    """What ``/metrics`` shows: the collector's, and the process's memory, processor time and open files."""
    made = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=made)
    made.register(collector)
    return made
