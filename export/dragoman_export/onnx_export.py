"""PyTorch modules as ONNX files: nothing on stdout, nothing in the file of the machine that exported."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

_OPSET = 20


def export_module(
    module: nn.Module,
    path: Path,
    *,
    inputs: dict[str, Any],
    dynamic_shapes: dict[str, Any],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> None:
    """Write the module as one ONNX file; inputs by the names of ``forward``, lists among them flattened in order."""
    program = torch.onnx.export(
        module,
        kwargs=inputs,
        dynamic_shapes=dynamic_shapes,
        input_names=input_names,
        output_names=output_names,
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    del proto.metadata_props[:]
    for node in proto.graph.node:
        # Stack traces: paths of the machine that exported.
        del node.metadata_props[:]
        node.doc_string = ""
    path.write_bytes(proto.SerializeToString())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout, warns of its own deprecations, and logs what it skips."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
