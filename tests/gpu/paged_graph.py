"""The step of a decoder alone with its attention over pages: PagedAttention in the place of GroupQueryAttention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_DOMAIN = "com.microsoft"
_METADATA = 16
"""The place of ``attention_metadata`` among the operator's inputs."""
_ROW, _STEP = "row_shape", "step_shape"


@dataclass(frozen=True)
class Pages:
    """How caches are cut into blocks, and which blocks are a row's."""

    block: int
    """Positions of a block."""
    longest: int
    """Positions that a row may have, a multiple of the block."""

    @property
    def of_row(self) -> int:
        """Blocks that a row has."""
        return self.longest // self.block

    def table(self, rows: int, shared: int = 0) -> npt.NDArray[np.int32]:
        """The blocks of each row (rows, of_row), in no order; the first ``shared`` ones are the first row's for all."""
        count = rows * self.of_row
        table = np.random.default_rng(7).permutation(count).astype(np.int32).reshape(rows, self.of_row)
        table[:, :shared] = table[0, :shared]
        return table


def paged_graph(source: Path, target: Path, pages: Pages) -> None:
    """Write the step of ``source`` with pages; caches are (blocks, block, heads, head_dim), still written in place.

    Inputs are input_ids (rows, 1), lengths (rows,), block_table (rows, blocks of a row), steps (rows + 1,), which count
    from 0, and the caches. What a row has may lie in any blocks, and two rows may read the same one.
    """
    model = onnx.load(source)
    graph = model.graph
    heads, width = (axis.dim_value for axis in graph.input[-1].type.tensor_type.shape.dim[1::2])
    nodes = [part for node in graph.node for part in _replaced(node)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    inputs = [port for port in graph.input if port.name != "total_length"]
    for port in [*inputs, *graph.output]:
        if port.name.startswith(("past_", "present_")):
            _shape(port, ["blocks", pages.block, heads, width])
    del graph.input[:]
    graph.input.extend(inputs)
    shapes: dict[str, list[str | int]] = {"block_table": ["rows", pages.of_row], "steps": ["rows_and_one"]}
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in shapes.items())
    constants: dict[str, npt.NDArray[Any]] = {
        _ROW: np.array([-1, 3 * heads * width], np.int64),
        _STEP: np.array([-1, 1, heads * width], np.int64),
        # Bounds that hold for every step: a captured one is launched again with what the first was told.
        "attention_metadata": np.array([1, pages.longest], np.int32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, target)


def _replaced(node: NodeProto) -> list[NodeProto]:
    if node.op_type != "GroupQueryAttention":
        return [node]
    packed, past_key, past_value = node.input[0], node.input[3], node.input[4]
    names = [f"{node.output[0]}_{part}" for part in ("packed", "paged")]
    inputs = [names[0], "", "", past_key, past_value, "steps", "lengths", "block_table"]
    inputs += [""] * (_METADATA - len(inputs)) + ["attention_metadata"]
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return [
        helper.make_node("Reshape", [packed, _ROW], [names[0]]),
        helper.make_node("PagedAttention", inputs, [names[1], *node.output[1:3]], domain=_DOMAIN, **attributes),
        helper.make_node("Reshape", [names[1], _STEP], [node.output[0]]),
    ]


def _shape(port: onnx.ValueInfoProto, shape: list[str | int]) -> None:
    kind = port.type.tensor_type.elem_type
    port.CopyFrom(helper.make_tensor_value_info(port.name, kind, shape))
