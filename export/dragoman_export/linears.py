"""Finds the linear maps and the embedding in an exported float32 graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from dragoman_export.graph_modules import EMBEDDING

Weights = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Linear:
    """A MatMul by a constant matrix, with the Add of a constant vector behind it if there is one."""

    matmul: str
    """Name of the MatMul node."""
    add: str | None
    """Name of the Add node."""
    input: str
    weight: str
    bias: str | None
    output: str
    """What the Add gives, or else the MatMul."""

    @property
    def name(self) -> str:
        """The layer's name, such as "layers.0.feed_forward.inner"."""
        return self.weight.removesuffix(".weight")


def read_weights(model: onnx.ModelProto) -> Weights:
    """All constants of the graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def find_linears(model: onnx.ModelProto, weights: Weights) -> list[Linear]:
    """In the order in which they run."""
    consumers = _consumers(model)
    outputs = {port.name for port in model.graph.output}
    return [
        _linear(node, consumers, outputs, weights)
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and weights[node.input[1]].ndim == 2
    ]


def _linear(
    matmul: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]], outputs: set[str], weights: Weights
) -> Linear:
    product, (x, weight) = matmul.output[0], matmul.input
    following = consumers.get(product, [])
    if len(following) == 1 and following[0].op_type == "Add" and product not in outputs:
        add = following[0]
        other = add.input[1] if add.input[0] == product else add.input[0]
        if other in weights and weights[other].shape == weights[weight].shape[1:]:
            return Linear(matmul.name, add.name, x, weight, other, add.output[0])
    return Linear(matmul.name, None, x, weight, None, product)


def find_embedding(model: onnx.ModelProto) -> onnx.NodeProto:
    """The Gather of token ids."""
    found = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == EMBEDDING]
    assert len(found) == 1, "the exported graph gathers from its embedding once"
    return found[0]


@dataclass(frozen=True)
class NormBefore:
    """A LayerNormalization whose result goes to linear maps alone, and those."""

    norm: onnx.NodeProto
    linears: list[Linear]


def norms_before_linears(model: onnx.ModelProto, weights: Weights) -> Iterator[NormBefore]:
    """Where a scale per channel can be moved between a norm and the linear maps behind it.

    With the norm behind the residual ("post") there is none: the residual reads the norm's result too.
    """
    linears = find_linears(model, weights)
    reads = Counter(name for node in model.graph.node for name in node.input)
    outputs = {port.name for port in model.graph.output}
    for node in model.graph.node:
        if node.op_type != "LayerNormalization" or node.output[0] in outputs:
            continue
        readers = [linear for linear in linears if linear.input == node.output[0]]
        if readers and len(readers) == reads[node.output[0]]:
            yield NormBefore(node, readers)


def _consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return consumers


def replace_weights(model: onnx.ModelProto, weights: Weights) -> None:
    """Make ``weights`` the constants of the graph, leaving out those that no node reads."""
    read = {name for node in model.graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items() if name in read
    )
