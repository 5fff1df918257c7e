"""Exports ``explain.onnx``: every attention weight of a model, teacher-forced, computed in float32."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from dragoman_export.explain_modules import VisibleTransformer
from dragoman_export.graphs import export_module, quiet
from dragoman_export.half_weights import halve_exact_weights
from dragoman_model.transformer import Transformer


def export_explain(model: Transformer, path: Path) -> Path:
    """Write the graph and return ``path``; ``dragoman_server.explaining.signature`` says what goes in and comes out.

    Constants that float16 holds exactly are stored so: half the bytes, the same weights.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module, inputs, axes, outputs = _parts(model)
    with quiet(), torch.no_grad():
        export_module(
            module.eval(),
            path,
            inputs=inputs,
            dynamic_shapes=axes,
            input_names=list(inputs),
            output_names=outputs,
        )
    graph = onnx.load_model(path)
    halve_exact_weights(graph)
    path.write_bytes(graph.SerializeToString())
    return path


def _parts(model: Transformer) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, dict[int, str]], list[str]]:
    """The family's module, an example of its inputs, their dynamic axes, and the names of what it returns."""
    lengths = torch.tensor([5, 3], dtype=torch.int32)
    inputs = {
        "source_ids": torch.ones(2, 5, dtype=torch.int64),
        "source_lengths": lengths,
        "target_ids": torch.ones(2, 4, dtype=torch.int64),
    }
    axes = {"source_ids": {0: "batch", 1: "source"}, "source_lengths": {0: "batch"}}
    return (
        VisibleTransformer(model),
        inputs,
        axes | {"target_ids": {0: "batch", 1: "target"}},
        ["encoder_self", "decoder_self", "cross"],
    )
