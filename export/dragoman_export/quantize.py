"""Static int8: constant activation scales, so that a row's result never depends on its neighbours in the batch.

Each linear map becomes QuantizeLinear and MatMulIntegerToFloat: activations as unsigned 8-bit numbers over a
calibrated range, weights as signed ones with a scale for every output. The embedding keeps 8 bits and a scale for
every row, or 16 where it is shared with a graph that needs those. Norms, softmax, attention and caches stay in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from dragoman_export.calibration import Calibration, Range
from dragoman_export.graph_modules import EMBEDDING
from dragoman_export.linears import (
    Linear,
    Weights,
    find_embedding,
    find_linears,
    norms_before_linears,
    read_weights,
    replace_weights,
)

_MICROSOFT = "com.microsoft"


def quantize_symmetric(
    matrix: npt.NDArray[np.float32], axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Signed 8-bit numbers in [-127, 127] and scales, one scale for each slice along ``axis``."""
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8), scales


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    keep: Collection[str] = frozenset(),
    half_embedding: bool = False,
) -> onnx.ModelProto:
    """The float32 graph in static int8; linear maps named in ``keep`` stay in float32.

    ``ranges`` holds every linear map's input; KeyError where one is missing. With ``half_embedding`` the embedding is
    float16 instead of int8.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = read_weights(model)
    linears = {linear.matmul: linear for linear in find_linears(model, weights) if linear.name not in keep}
    absorbed = {linear.add for linear in linears.values()}
    embedding = find_embedding(model)
    quantized: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in linears:
            linear = linears[node.name]
            if linear.input not in quantized:
                quantized.add(linear.input)
                nodes.append(_quantize_input(linear.input, ranges[linear.input], weights))
            nodes.append(_integer_matmul(linear, weights))
        elif node.name == embedding.name:
            nodes += _half_rows(node, weights) if half_embedding else _dequantized_rows(node, weights)
        elif node.name not in absorbed:
            nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    replace_weights(result, weights)
    if all(opset.domain != _MICROSOFT for opset in result.opset_import):
        result.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return result


def _quantize_input(name: str, chosen: Range, weights: Weights) -> onnx.NodeProto:
    weights[f"{name}.scale"] = np.array(chosen.scale)
    weights[f"{name}.zero_point"] = np.array(chosen.zero_point)
    inputs = [name, f"{name}.scale", f"{name}.zero_point"]
    return helper.make_node("QuantizeLinear", inputs, [f"{name}.uint8"], name=f"quantize_{name}")


def _integer_matmul(linear: Linear, weights: Weights) -> onnx.NodeProto:
    matrix, scales = quantize_symmetric(weights[linear.weight], axis=0)
    weights[f"{linear.weight}.int8"], weights[f"{linear.weight}.scale"] = matrix, scales[0]
    x, w = linear.input, linear.weight
    inputs = [f"{x}.uint8", f"{w}.int8", f"{x}.scale", f"{w}.scale", f"{x}.zero_point"]
    if linear.bias is not None:
        inputs += ["", linear.bias]
    return helper.make_node("MatMulIntegerToFloat", inputs, [linear.output], name=linear.matmul, domain=_MICROSOFT)


def _dequantized_rows(gather: onnx.NodeProto, weights: Weights) -> list[onnx.NodeProto]:
    table, scales = quantize_symmetric(weights[EMBEDDING], axis=1)
    weights[f"{EMBEDDING}.int8"], weights[f"{EMBEDDING}.scale"] = table, scales
    ids, output = gather.input[1], gather.output[0]
    row, number, scale = f"{output}.int8", f"{output}.float", f"{output}.scale"
    return [
        helper.make_node("Gather", [f"{EMBEDDING}.int8", ids], [row], name=f"{gather.name}_rows"),
        helper.make_node("Cast", [row], [number], name=f"{gather.name}_cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{EMBEDDING}.scale", ids], [scale], name=f"{gather.name}_scales"),
        helper.make_node("Mul", [number, scale], [output], name=f"{gather.name}_scaled"),
    ]


def _half_rows(gather: onnx.NodeProto, weights: Weights) -> list[onnx.NodeProto]:
    weights[f"{EMBEDDING}.half"] = weights[EMBEDDING].astype(np.float16)
    ids, output = gather.input[1], gather.output[0]
    row = f"{output}.half"
    return [
        helper.make_node("Gather", [f"{EMBEDDING}.half", ids], [row], name=f"{gather.name}_rows"),
        helper.make_node("Cast", [row], [output], name=f"{gather.name}_cast", to=onnx.TensorProto.FLOAT),
    ]


def smooth(
    model: onnx.ModelProto, calibration: Calibration, ranges: Mapping[str, Range], *, strength: float = 0.5
) -> tuple[onnx.ModelProto, dict[str, Range]]:
    """Move scale from the inputs of linear maps into their weights, by way of the norm before (Xiao et al. 2023).

    Channel j is divided by max|x_j|^strength / max|w_j|^(1 - strength) in the norm and multiplied by it in the weights:
    in float32 the graph computes the same (SmoothQuant, arXiv:2211.10438, equation 4). Returns graph and ranges.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = read_weights(model)
    smoothed = dict(ranges)
    for before in list(norms_before_linears(result, weights)):
        name = before.norm.output[0]
        statistics = calibration.tensors[name]
        seen = np.maximum(-statistics.channel_low, statistics.channel_high)
        matrices = np.concatenate([weights[linear.weight] for linear in before.linears], axis=1)
        factor = np.maximum(seen, 1e-5) ** strength / np.maximum(np.abs(matrices).max(axis=1), 1e-5) ** (1 - strength)
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)  # (channels,)
        for index in (1, 2):  # scale and bias; constants may be shared with other norms, so each gets its own
            own = f"{name}.norm.{index}"
            weights[own] = weights[before.norm.input[index]] / factor
            before.norm.input[index] = own
        for linear in before.linears:
            weights[linear.weight] = weights[linear.weight] * factor[:, None]
        low, high = statistics.channel_low / factor, statistics.channel_high / factor
        smoothed[name] = Range(float(low.min()), float(high.max()))
    replace_weights(result, weights)
    return result, smoothed
