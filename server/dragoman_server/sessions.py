"""onnxruntime sessions as lanes run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import structlog

from dragoman_server.compiled_kernels import takes_heads
from dragoman_server.graphs import cache_type

_log = structlog.get_logger(__name__)


def fitting_kernels(kernels: Path | None, decoder: Path, head_dim: int) -> Path | None:
    """The library, where it is made for models such as this: caches of 8 bits, and heads of a size that it takes."""
    fits = kernels is not None and takes_heads(head_dim) and cache_type(decoder) == "int8"
    return kernels if fits else None


def lane_session(path: Path, kernels: Path | None = None) -> Any:
    """A session of one thread on the CPU, with the operators of the library ``kernels``; None: onnxruntime's own."""
    if kernels is not None:
        options = _options()
        options.register_custom_ops_library(str(kernels))
        try:
            return _session(path, options)
        except Exception as error:  # onnxruntime raises many types that share no base of their own
            _log.warning("the compiled operators do not take a graph: onnxruntime's own run it", why=str(error))
    return _session(path, _options())


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Lanes are the parallelism: a thread pool inside each would only fight over the cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(path: Path, options: ort.SessionOptions) -> Any:
    # The fused operator is several times slower on CPU than LayerNormalization and Add apart.
    return ort.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
