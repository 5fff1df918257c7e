"""One file for the embedding that several graphs of a bundle read: float16, as ONNX external data."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from dragoman_export.graph_modules import scaled_embedding
from dragoman_model.families import ServedModel
from dragoman_server.graphs import external_locations

TABLE = "int8/embedding.bin"
"""Where the table stands in a bundle."""


@dataclass(frozen=True)
class SharedEmbedding:
    """A table on disk: (vocabulary, d_model) in float16, row after row, little-endian, times sqrt(d_model)."""

    table: npt.NDArray[np.float16]
    path: Path


def shared_embedding(model: ServedModel, precisions: Collection[str], folder: Path) -> SharedEmbedding | None:
    """Write the table to where it stands in a bundle that is made in ``folder``; None where nothing is shared.

    Shared is what float16 holds exactly, so that explain.onnx computes as before: weights that were rounded to it, and
    a d_model whose root is a power of two. Without int8 one graph alone would read the table.
    """
    if "int8" not in precisions:
        return None
    scaled = scaled_embedding(model.embedding).numpy()
    with np.errstate(over="ignore"):  # what is too large for float16 is not exact
        half = scaled.astype("<f2")
    if not np.array_equal(half.astype(np.float32), scaled):
        return None
    path = folder / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(half.tobytes())
    return SharedEmbedding(half, path)


def write_graph(model: onnx.ModelProto, path: Path, shared: SharedEmbedding | None = None) -> None:
    """Write the graph; its constant that equals the shared table becomes a reference to that file.

    The file must lie in the graph's folder or below: onnxruntime refuses others, and so does loading a bundle.
    """
    if shared is not None:
        tensors = [tensor for tensor in model.graph.initializer if _holds(tensor, shared.table)]
        assert len(tensors) == 1, "a graph reads its embedding from one constant"
        location = shared.path.relative_to(path.parent).as_posix()
        tensors[0].raw_data = shared.table.tobytes()
        external_data_helper.set_external_data(tensors[0], location, offset=0, length=shared.table.nbytes)
        tensors[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


def _holds(tensor: TensorProto, table: npt.NDArray[np.float16]) -> bool:
    if tensor.data_type != TensorProto.FLOAT16 or tuple(tensor.dims) != table.shape:
        return False
    return np.array_equal(numpy_helper.to_array(tensor), table)


def with_weights(graphs: Iterable[Path]) -> list[Path]:
    """The graphs, and the files that hold some of their weights."""
    found: dict[Path, None] = {}
    for graph in graphs:
        found[graph] = None
        found |= dict.fromkeys(graph.parent / location for location in sorted(external_locations(graph.read_bytes())))
    return list(found)
