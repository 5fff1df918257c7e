"""Breaks a decoder's graph: where a certain token is fed, that row's logits are not numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def poison_logits(source: Path, target: Path, token: int, value: float) -> Path:
    """Write to ``target`` the decoder at ``source``, whose logits are all ``value`` for a row that is fed ``token``.

    What the graph computes from the logits sees that too. External data stays where it is: ``target`` stands beside it.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    _rename(graph, "logits", "sound_logits")
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(token, np.int64), "poison_token"),
            numpy_helper.from_array(np.array(value, np.float32), "poison_value"),
            numpy_helper.from_array(np.array([-1], np.int64), "poison_axis"),
            numpy_helper.from_array(np.array([-1], np.int64), "poison_last"),
            numpy_helper.from_array(np.array([np.iinfo(np.int64).max], np.int64), "poison_end"),
        ]
    )
    nodes = [
        # (rows, 1): the last token that is fed to each row.
        helper.make_node(
            "Slice", ["input_ids", "poison_last", "poison_end", "poison_axis"], ["poison_fed"], name="poison_fed"
        ),
        helper.make_node("Equal", ["poison_fed", "poison_token"], ["poisoned"], name="poisoned"),
        helper.make_node("Where", ["poisoned", "poison_value", "sound_logits"], ["logits"], name="poison_logits"),
    ]
    at = next(index for index, node in enumerate(graph.node) if "sound_logits" in node.output)
    for offset, node in enumerate(nodes):
        graph.node.insert(at + 1 + offset, node)
    onnx.save(model, target)
    return target


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """The value ``old`` is called ``new`` where it is made; whoever reads it goes on reading ``old``."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == old:
                node.output[place] = new
