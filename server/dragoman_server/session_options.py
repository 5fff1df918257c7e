"""What every session that computes on the processor is told."""

from __future__ import annotations

import onnxruntime as ort

_EXACT = "session.x64quantprecision"


def processor_options(threads: int = 1) -> ort.SessionOptions:
    """For a session whose runs are computed by so many threads, and whose sums of products of 8 bits are exact.

    Without AVX-512 VNNI onnxruntime's quickest products add each two within 16 bits, and 255 x 127 twice does not fit:
    an answer would depend on the machine. It is told to use those that widen first.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(_EXACT, "1")
    return options
