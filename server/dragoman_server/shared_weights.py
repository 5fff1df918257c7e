"""Weights in files beside a graph: mapped into memory once, whatever number of sessions read them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from dragoman_protos.onnx.graph_pb2 import ModelProto, TensorProto

_ELEMENTS = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}
"""ONNX's numbers of the types that can be mapped, and numpy's names."""
_OUTSIDE = 1
"""ONNX's number for weights that lie in another file."""


class SharedWeights:
    """What was mapped so far, as onnxruntime's values. They must live as long as the sessions that read them."""

    def __init__(self) -> None:
        self._mapped: dict[tuple[Path, int, str, tuple[int, ...]], Any] = {}

    def of(self, graph: Path) -> dict[str, Any]:
        """The graph's weights in other files, by name; onnxruntime reads by itself what is not among them.

        DecodeError where the file is no protobuf, OSError where another file cannot be read.
        """
        tensors = ModelProto.FromString(graph.read_bytes()).graph.initializer
        return dict(self._found(graph.parent, [t for t in tensors if t.data_location == _OUTSIDE]))

    def _found(self, folder: Path, tensors: list[TensorProto]) -> Iterator[tuple[str, Any]]:
        for tensor in tensors:
            place = {entry.key: entry.value for entry in tensor.external_data}
            element, shape, begin = _ELEMENTS.get(tensor.data_type), tuple(tensor.dims), int(place.get("offset", 0))
            if element is None or not prod(shape) or begin % np.dtype(element).itemsize:
                continue
            key = (folder / place["location"]).resolve(), begin, element, shape
            if key not in self._mapped:
                array = np.memmap(key[0], np.dtype(element), mode="r", offset=begin, shape=shape)
                self._mapped[key] = ort.OrtValue.ortvalue_from_numpy(array)
            yield tensor.name, self._mapped[key]
