"""A graph as whoever looks for patterns in it sees it: who makes a value, who reads it, and what is constant."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_protos.onnx.graph_pb2 import ModelProto, NodeProto, TensorProto

_ELEMENTS = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}
"""ONNX's numbers of element types."""
_INSIDE = 0
"""Where a tensor's numbers are: in the file itself."""

Constant = npt.NDArray[Any]


class GraphView:
    """Indices over the nodes of a model, which nobody changes meanwhile."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.places = {id(node): place for place, node in enumerate(self.nodes)}
        self._outputs = {port.name for port in model.graph.output}
        self._inputs = {port.name: port for port in model.graph.input}
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def is_input(self, name: str) -> bool:
        """Whether the value is an input of the graph."""
        return name in self._inputs

    def is_constant(self, name: str) -> bool:
        """Whether the value is a constant, wherever its numbers are."""
        return name in self._constants

    def axes(self, name: str) -> int | None:
        """How many an input has; None: there is no such input."""
        port = self._inputs.get(name)
        return None if port is None else len(port.type.tensor_type.shape.dim)

    def size(self, name: str, axis: int) -> int | None:
        """The size of an input's axis where the graph says it."""
        port = self._inputs.get(name)
        dims = port.type.tensor_type.shape.dim if port is not None else ()
        return dims[axis].dim_value if axis < len(dims) and dims[axis].HasField("dim_value") else None

    def constant(self, name: str) -> Constant | None:
        """The numbers of a constant that the file itself holds, without a copy; None for anything else."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_location != _INSIDE or tensor.data_type not in _ELEMENTS:
            return None
        numbers = np.frombuffer(tensor.raw_data, _ELEMENTS[tensor.data_type])
        return numbers.reshape(tensor.dims) if numbers.size == np.prod(tensor.dims, dtype=np.int64) else None

    def maker(self, name: str, operator: str) -> NodeProto | None:
        """The node that makes the value, if it is such a one."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == operator else None

    def made_at(self, name: str) -> int:
        """The place of the node that makes the value; -1 where none does, so that it is there from the beginning."""
        node = self._makers.get(name)
        return -1 if node is None else self.places[id(node)]

    def only_reader(self, name: str, operator: str) -> NodeProto | None:
        """The node that alone reads the value, once, if it is such a one and the value is no output of the graph."""
        readers = self._readers.get(name, ())
        if len(readers) != 1 or name in self._outputs or readers[0].op_type != operator:
            return None
        return readers[0] if Counter(readers[0].input)[name] == 1 else None

    def read_outside(self, name: str, nodes: set[int]) -> bool:
        """Whether the graph gives the value away, or a node reads it whose place is not among these."""
        return name in self._outputs or any(self.places[id(node)] not in nodes for node in self._readers.get(name, ()))


def attribute(node: NodeProto, name: str, absent: int) -> int:
    """An integer attribute."""
    return next((found.i for found in node.attribute if found.name == name), absent)


def float_attribute(node: NodeProto, name: str, absent: float) -> float:
    """A float attribute."""
    return next((found.f for found in node.attribute if found.name == name), absent)
