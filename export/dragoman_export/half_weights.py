"""Stores a float32 graph's constants in half the bytes wherever that loses nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_FEWEST = 256
"""Numbers: below, a node more costs as much as the bytes that it saves."""


def halve_exact_weights(model: onnx.ModelProto) -> int:
    """Make float16 of every float32 constant that float16 holds exactly, and a Cast behind it; returns how many.

    What a Gather reads is cast behind the Gather, so that only the rows that are read become float32. Other casts are
    folded when a session is made: nothing is computed in float16.
    """
    halved: dict[str, npt.NDArray[np.float16]] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= _FEWEST:
            values = numpy_helper.to_array(tensor)
            half = values.astype(np.float16)
            if np.array_equal(half.astype(np.float32), values):
                halved[tensor.name] = half
    for tensor in model.graph.initializer:
        if tensor.name in halved:
            tensor.CopyFrom(numpy_helper.from_array(halved[tensor.name], tensor.name))
    nodes: list[onnx.NodeProto] = []
    cast: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in halved:
            output = node.output[0]
            node.output[0] = f"{output}_half"
            nodes += [node, helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT)]
            continue
        for place, name in enumerate(node.input):
            if name in halved:
                if name not in cast:
                    nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
                    cast.add(name)
                node.input[place] = f"{name}_float"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # Types of intermediate values that the exporter noted would now be wrong for what a Gather gives.
    del model.graph.value_info[:]
    return len(halved)
