"""Exports ``explain.onnx``: every attention weight of a model, teacher-forced, computed in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from dragoman_export.explain_modules import VisibleLanguageModel, VisibleTextEncoder, VisibleTransformer
from dragoman_export.half_weights import halve_exact_weights
from dragoman_export.onnx_export import export_module, quiet
from dragoman_export.shared_embedding import SharedEmbedding, write_graph
from dragoman_model.families import ServedModel
from dragoman_model.language_model import LanguageModel
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.transformer import Transformer


def export_explain(model: ServedModel, path: Path, *, shared: SharedEmbedding | None = None) -> Path:
    """Write the graph and return ``path``; ``dragoman_server.explaining.signature`` says what goes in and comes out.

    Constants that float16 holds exactly are stored so: half the bytes, the same weights. With ``shared`` the graph
    refers to that table instead of holding the embedding.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module, inputs, outputs = _parts(model, shared)
    with quiet(), torch.no_grad():
        export_module(
            module.eval(),
            path,
            inputs=inputs,
            dynamic_shapes=_dynamic(inputs),
            input_names=list(inputs),
            output_names=outputs,
        )
    graph = onnx.load_model(path)
    halve_exact_weights(graph)
    write_graph(graph, path, shared)
    return path


def _parts(model: ServedModel, shared: SharedEmbedding | None) -> tuple[nn.Module, dict[str, Tensor], list[str]]:
    """The family's module, an example of its inputs, and the names of what it returns."""
    scaled = None if shared is None else torch.from_numpy(shared.table.astype(np.float32))
    ids, lengths = torch.ones(2, 5, dtype=torch.int64), torch.tensor([5, 3], dtype=torch.int32)
    match model:
        case Transformer():
            inputs = {"source_ids": ids, "source_lengths": lengths, "target_ids": ids[:, :4].clone()}
            return VisibleTransformer(model, scaled), inputs, ["encoder_self", "decoder_self", "cross"]
        case LanguageModel():
            return VisibleLanguageModel(model, scaled), {"input_ids": ids}, ["decoder_self"]
        case TextEncoder():
            inputs = {"input_ids": ids, "lengths": lengths}
            if model.segment_embedding is not None:
                inputs["segments"] = torch.zeros_like(ids)
            return VisibleTextEncoder(model, scaled), inputs, ["encoder_self"]


def _dynamic(inputs: dict[str, Tensor]) -> dict[str, dict[int, str]]:
    """Every dimension; what is read together is equally long."""
    times = {"target_ids": "target"}
    return {
        name: {0: "batch"} | ({1: times.get(name, "source")} if tensor.dim() > 1 else {})
        for name, tensor in inputs.items()
    }
