"""Which of a graph's nodes on a GPU would need what the processor computes, and so a copy at each step."""

from __future__ import annotations

from pathlib import Path

import onnx

_HOST_INPUTS = {
    "ConstantOfShape": {0},
    "Expand": {1},
    "GroupQueryAttention": {6},
    "Range": {0, 1, 2},
    "Reshape": {1},
    "Slice": {1, 2, 3, 4},
    "Squeeze": {1},
    "TopK": {1},
    "Unsqueeze": {1},
}
"""Inputs that these operators read on the processor, wherever they run."""
_MADE_THERE = {"ConstantOfShape", "Range"}


def copied_to_the_gpu(graph: Path) -> list[str]:
    """Nodes that read a tensor of the processor as one of the GPU.

    onnxruntime computes shapes on the processor, and what follows from nothing but shapes and constants.
    """
    model = onnx.load(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    there: set[str] = set()
    copied = []
    for node in model.graph.node:
        of_host = {place for place, name in enumerate(node.input) if name in there}
        if node.op_type == "Shape":
            there |= set(node.output)
        elif not of_host:
            continue
        elif of_host <= _HOST_INPUTS.get(node.op_type, set()):
            if node.op_type in _MADE_THERE:
                there |= set(node.output)
        elif all(name in there or name in constants for name in node.input):
            there |= set(node.output)
        else:
            copied.append(f"{node.op_type} {node.name}")
    return copied
