"""onnxruntime sessions as lanes run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort


def lane_session(path: Path) -> Any:
    """A session of one thread on the CPU."""
    options = ort.SessionOptions()
    # Lanes are the parallelism: a thread pool inside each would only fight over the cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The fused operator is several times slower on CPU than LayerNormalization and Add apart.
    return ort.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
