"""What stands for nodes of a graph: one node of the compiled operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dragoman_protos.onnx.graph_pb2 import (
    AttributeProto,
    ModelProto,
    NodeProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
)

DOMAIN = "dragoman"
"""Of the operators that are no others' under the same name."""
_INT64 = 7
"""ONNX's number of that type."""


class Replacement(NamedTuple):
    """A node in place of others."""

    node: NodeProto
    places: list[int]
    """Of the nodes that it stands for; it takes the place of the first."""
    chooses: bool = False
    """Whether it is a chain of a single linear map, of whose results the greatest may be chosen at once."""


def made_node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], name: str, attributes: Mapping[str, int] | None = None
) -> NodeProto:
    """A node of the compiled operators."""
    made = [AttributeProto(name=key, i=value, type=AttributeProto.INT) for key, value in (attributes or {}).items()]
    return NodeProto(op_type=operator, domain=DOMAIN, input=inputs, output=outputs, name=name, attribute=made)


def add_input(model: ModelProto, name: str, axes: int = 0) -> None:
    """An input of 64-bit integers, unless there is one of that name."""
    if any(port.name == name for port in model.graph.input):
        return
    shape = TensorShapeProto(dim=[TensorShapeProto.Dimension()] * axes)
    kind = TypeProto(tensor_type=TypeProto.Tensor(elem_type=_INT64, shape=shape))
    model.graph.input.append(ValueInfoProto(name=name, type=kind))
