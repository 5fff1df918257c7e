"""onnxruntime sessions as lanes run them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort

from dragoman_server.captures import CAPTURES
from dragoman_server.compiled_kernels import takes_heads
from dragoman_server.cuda_libraries import library_names, load_libraries
from dragoman_server.device import CPU, CPU_PROVIDER, Device, DeviceError
from dragoman_server.fusing.fusion import fused
from dragoman_server.graphs import cache_type
from dragoman_server.seldom_log import logger
from dragoman_server.session_options import processor_options
from dragoman_server.shared_weights import SharedWeights

_SHAPES = frozenset(
    {"Shape", "Size", "Range", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Cast", "Add", "Mul"}
)
"""Operators that onnxruntime computes shapes with, on the processor by its own choice: a few numbers a step."""

_CUDA = "13"
"""Which version is needed where onnxruntime does not say what it was built for."""
_FOLDER = "session.model_external_initializers_file_folder_path"


def fitting_kernels(kernels: Path | None, decoder: Path, head_dim: int) -> Path | None:
    """The library, where it is made for models such as this: caches of 8 bits, and heads of a size that it takes."""
    fits = kernels is not None and takes_heads(head_dim) and cache_type(decoder) == "int8"
    return kernels if fits else None


class Sessions:
    """Makes the sessions of one model's lanes.

    On the processor one session of a graph serves all lanes, since any number of threads may run it at once: its
    weights and its activations' memory are there once, and so are weights that graphs share. On a GPU each lane has its
    own, whose runs are captured. ``threads`` compute a run on the processor together.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._weights = SharedWeights()
        self._made: dict[tuple[Path, Path | None], Any] = {}

    def of(self, graph: Path, device: Device = CPU, *, captured: bool = False, kernels: Path | None = None) -> Any:
        """As ``lane_session`` says."""
        if device.kind == "cuda":
            return lane_session(graph, device, captured=captured, kernels=kernels)
        key = graph, kernels
        if key not in self._made:
            weights = self._weights.of(graph)
            self._made[key] = lane_session(graph, device, kernels=kernels, weights=weights, threads=self._threads)
        return self._made[key]


def lane_session(
    graph: Path | bytes,
    device: Device = CPU,
    *,
    captured: bool = False,
    kernels: Path | None = None,
    weights: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Any:
    """A session on the device, of a file or of a graph's bytes; on the processor ``threads`` compute a run together.

    ``captured``: its runs may become CUDA graphs. ``kernels``: a library whose operators stand in for onnxruntime's
    own on the processor; a GPU does without. ``weights``: some of the graph's, by name, as onnxruntime's values, which
    a session on the processor reads where they are. DeviceError where the device is a GPU, and the session would run
    elsewhere or compute a part on the processor.
    """
    if device.kind == "cuda":
        return _gpu_session(graph, device, captured=captured)
    if kernels is not None and isinstance(graph, Path):
        options = _options(weights)
        # A rewritten graph has no place of its own to find the files beside it from.
        options.add_session_config_entry(_FOLDER, str(graph.parent))
        try:
            options.register_custom_ops_library(str(kernels))
            with fused(graph, kernels, threads=threads) as rewritten:
                return _cpu_session(rewritten, options, weights)
        except Exception as error:  # onnxruntime raises many types that share no base of their own
            logger(__name__).warning(
                "the compiled operators do not take a graph: onnxruntime's own run it", why=str(error)
            )
    return _cpu_session(graph, _options(weights, threads), weights)


def _options(weights: Mapping[str, Any] | None = None, threads: int = 1) -> ort.SessionOptions:
    # Lanes are the parallelism: unless it is asked for, a thread pool inside each would only fight over the cores. The
    # compiled operators have threads of their own.
    options = processor_options(threads)
    for name, value in (weights or {}).items():
        options.add_initializer(name, value)
    return options


def _cpu_session(graph: Path | bytes, options: ort.SessionOptions, weights: Mapping[str, Any] | None) -> Any:
    # The fused operator is several times slower on CPU than LayerNormalization and Add apart.
    disabled = ["SkipLayerNormFusion"]
    session = ort.InferenceSession(graph, options, providers=[CPU_PROVIDER], disabled_optimizers=disabled)
    session.weights = weights  # which onnxruntime itself does not keep alive
    return session


def _gpu_session(graph: Path | bytes, device: Device, *, captured: bool) -> Any:
    demand_cuda(device)
    options = _options()
    # A plan of memory is kept for each shape that was ever seen, and moves have any.
    options.enable_mem_pattern = not isinstance(graph, bytes)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    with CAPTURES.beside():  # it allocates
        session = ort.InferenceSession(graph, options, providers=device.providers(captured=captured))
    # onnxruntime goes on without a provider whose libraries it cannot load.
    found = session.get_providers()[0]
    if found == CPU_PROVIDER:
        raise DeviceError(f"device = {device}: onnxruntime made a session on {found}; it cannot use its CUDA provider")
    if away := nodes_on_cpu(session):
        raise DeviceError(f"device = {device}: these nodes would run on the processor: {', '.join(away)}")
    return session


@cache
def _load_cuda() -> list[str]:
    """Load the libraries of CUDA, and return the names of those that are missing."""
    missing = load_libraries(library_names(int((ort.cuda_version or _CUDA).split(".")[0])), sys.path)
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
        ort.preload_dlls()  # what else it may want: nothing that has to be there
    return missing


def demand_cuda(device: Device, load: Callable[[], Sequence[str]] = _load_cuda) -> None:
    """Raises DeviceError where a library is missing that onnxruntime needs on the device."""
    if missing := load():
        raise DeviceError(
            f"device = {device}: {', '.join(missing)} cannot be loaded: the driver, CUDA's libraries and cuDNN 9 are "
            "needed, in the system or in Python's packages (docs/gpu.md)"
        )


def nodes_on_cpu(session: Any) -> list[str]:
    """Nodes that the processor would run, as "operator name", those of shapes left out.

    Of a session that was made to record where its nodes are.
    """
    return sorted(
        f"{node.op_type} {node.name}".strip()
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU_PROVIDER
        for node in part.get_nodes()
        if node.op_type not in _SHAPES
    )
