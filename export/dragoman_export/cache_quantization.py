"""Caches in 8 bits: keys and values with a constant scale for every channel, so a quarter of the memory to walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.calibration import Calibration
from dragoman_export.linears import Linear

Scales = npt.NDArray[np.float32]
"""(channels,): what one step of an 8-bit number is worth."""

_CROSS = "cross"
_SELF_PROJECTION, _CROSS_PROJECTION = "query_key_value", "cross_key_value"


class CacheScales(NamedTuple):
    """By the name of the decoder's cache, such as "past_key_0" or "cross_value_1"."""

    decoder: Mapping[str, Scales]
    cross: Scales
    """Those of the cross caches side by side, as the encoder projects them."""


def watched(linears: list[Linear]) -> list[str]:
    """The tensors of a graph, besides the linear maps' inputs, that calibration has to see: what goes into caches."""
    return [linear.output for linear in _cached(linears)]


def _cached(linears: list[Linear]) -> list[Linear]:
    """Of the encoder the projection to all cross caches, of the decoder each layer's to the self caches."""
    cross = [linear for linear in linears if linear.name == _CROSS_PROJECTION]
    return cross or [linear for linear in linears if linear.name.endswith(_SELF_PROJECTION)]


def cache_scales(encoder: tuple[list[Linear], Calibration], decoder: tuple[list[Linear], Calibration]) -> CacheScales:
    """Scales that hold the largest key and value that calibration has seen in each channel."""
    (projection,) = _cached(encoder[0])
    cross = _largest(encoder[1], projection.output)
    by_name = self_cache_scales(*decoder)
    names = [name.replace("past", "cross") for name in by_name]
    return CacheScales(by_name | dict(zip(names, np.split(cross, len(names)), strict=True)), cross)


def self_cache_scales(linears: list[Linear], calibration: Calibration) -> dict[str, Scales]:
    """Those of a decoder's own caches alone, layer by layer, keys and values by turns."""
    by_name: dict[str, Scales] = {}
    for layer, linear in enumerate(_cached(linears)):
        keys_values = np.split(_largest(calibration, linear.output), 3)[1:]
        by_name |= zip((f"past_key_{layer}", f"past_value_{layer}"), keys_values, strict=True)
    return by_name


def _largest(calibration: Calibration, tensor: str) -> Scales:
    statistics = calibration.tensors[tensor]
    largest = np.maximum(-statistics.channel_low, statistics.channel_high)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def quantize_encoder_caches(model: onnx.ModelProto, output: str, scales: CacheScales) -> None:
    """Make the encoder's ``cross`` output int8, in place; ``output`` names what the last linear map gives."""
    (reshape,) = [node for node in model.graph.node if node.op_type == "Reshape" and node.input[0] == output]
    scaled, quantized = f"{output}.scaled", f"{output}.int8"
    factor, one, zero = f"{output}.per_step", f"{output}.one", f"{output}.zero"
    for name, value in ((factor, 1 / scales.cross), (one, np.float32(1)), (zero, np.int8(0))):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    nodes = list(model.graph.node)
    # QuantizeLinear with a scale for each channel takes them one by one, at thirty times the time.
    nodes[nodes.index(reshape) : nodes.index(reshape)] = [
        helper.make_node("Mul", [output, factor], [scaled], name="scale_cross"),
        helper.make_node("QuantizeLinear", [scaled, one, zero], [quantized], name="quantize_cross"),
    ]
    reshape.input[0] = quantized
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _retype(model, {_CROSS})


def quantize_decoder_caches(model: onnx.ModelProto, scales: Mapping[str, Scales]) -> None:
    """Make the decoder's caches int8, in place: its attention operators read and write them as they are."""
    for node in model.graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        node.input.extend([""] * (_FIRST_SCALE - len(node.input)))
        for cache in node.input[_PAST]:
            name = f"{cache}.scale"
            model.graph.initializer.append(numpy_helper.from_array(scales[cache], name))
            node.input.append(name)
        for attribute, value in _PER_CHANNEL.items():
            node.attribute.append(helper.make_attribute(attribute, value))
    _retype(model, set(scales) | {f"present_{_present(name)}" for name in scales})


_PAST, _FIRST_SCALE = slice(3, 5), 12
_PER_CHANNEL = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}


def _present(cache: str) -> str:
    return cache.removeprefix("past_")


def _retype(model: onnx.ModelProto, names: set[str]) -> None:
    for port in (*model.graph.input, *model.graph.output):
        if port.name in names:
            port.type.tensor_type.elem_type = TensorProto.INT8
    del model.graph.value_info[:]  # notes of the float32 graph
