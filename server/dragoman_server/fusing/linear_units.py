"""Finds the linear maps of a quantised graph, with what stands before and behind each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dragoman_protos.onnx.graph_pb2 import NodeProto
from dragoman_server.fusing.graph_view import Constant, GraphView, attribute, float_attribute

_MULTIPLE = 16
"""What a linear map's inputs must come in, for the kernels."""
_LAST = -1


@dataclass(frozen=True)
class LinearMap:
    """Activations (..., depth) in unsigned bytes by weights (depth, columns) in signed ones."""

    weights: Constant
    scale: Constant
    """Of the activations: ()."""
    zero_point: Constant
    scales: Constant
    """Of the weights: (columns,)."""
    bias: Constant | None


@dataclass(frozen=True)
class Norm:
    """A normalisation of the last axis."""

    scales: Constant
    biases: Constant
    epsilon: float


@dataclass
class Unit:
    """[normalise ->] quantise -> linear map [-> greater than 0 -> quantise -> linear map] [-> add]."""

    input: str
    norm: Norm | None
    flat: bool
    """Whether the axis before the last one, of size 1, is taken away."""
    linears: list[LinearMap]
    output: str
    addend: str | None = None
    places: list[int] = field(default_factory=list)
    """Of the nodes that it stands for."""

    @property
    def depth(self) -> int:
        """Numbers that it reads of a row."""
        return int(self.linears[0].weights.shape[0])

    @property
    def columns(self) -> int:
        """Numbers that it gives of a row."""
        return int(self.linears[-1].weights.shape[1])


def find_units(view: GraphView) -> list[Unit]:
    """All units, in the order of the graph; no node belongs to two of them."""
    found: list[Unit] = []
    taken: set[int] = set()
    widths: dict[str, int] = {}
    for node in view.nodes:
        if node.op_type != "QuantizeLinear" or view.places[id(node)] in taken:
            continue
        unit = _unit(view, node)
        if unit is None:
            continue
        widths[unit.input] = unit.depth
        _add(view, unit, widths)
        widths[unit.output] = unit.columns
        taken.update(unit.places)
        found.append(unit)
    return found


def _unit(view: GraphView, quantize: NodeProto) -> Unit | None:
    linear = _linear(view, quantize)
    if linear is None:
        return None
    product, first = linear
    source, norm, flat, before = _before(view, quantize)
    if norm is not None and norm.scales.shape != (first.weights.shape[0],):
        return None
    nodes = [*before, quantize, product]
    unit = Unit(source, norm, flat, [first], product.output[0])
    relu = view.only_reader(unit.output, "Relu")
    second = view.only_reader(relu.output[0], "QuantizeLinear") if relu is not None else None
    if relu is not None and second is not None and (following := _linear(view, second)) is not None:
        last, map_ = following
        nodes += [relu, second, last]
        unit.linears.append(map_)
        unit.output = last.output[0]
    unit.places = [view.places[id(node)] for node in nodes]
    return unit


def _linear(view: GraphView, quantize: NodeProto) -> tuple[NodeProto, LinearMap] | None:
    """The product that alone reads what is quantised, and its numbers; None where it is not made for the kernels."""
    product = view.only_reader(quantize.output[0], "MatMulIntegerToFloat")
    if product is None or product.input[0] != quantize.output[0] or attribute(quantize, "block_size", 0):
        return None
    names = [*product.input, *[""] * (7 - len(product.input))]
    if names[5] or names[2] != quantize.input[1] or len(quantize.input) < 3 or names[4] != quantize.input[2]:
        return None
    weights, scale, scales, zero_point = (view.constant(names[index]) for index in (1, 2, 3, 4))
    bias = view.constant(names[6])
    if weights is None or scale is None or scales is None or zero_point is None or (names[6] and bias is None):
        return None
    columns = weights.shape[-1:]
    fits = (
        weights.dtype == np.int8
        and zero_point.dtype == np.uint8
        and (weights.ndim, scale.size, zero_point.size) == (2, 1, 1)
        and weights.shape[0] % _MULTIPLE == 0
        and scales.shape == columns
        and (bias is None or bias.shape == columns)
    )
    return (product, LinearMap(weights, scale, zero_point, scales, bias)) if fits else None


def _before(view: GraphView, quantize: NodeProto) -> tuple[str, Norm | None, bool, list[NodeProto]]:
    """What a unit reads, and the nodes between that and its quantising: a normalisation, and the choice of the only
    position."""
    source, nodes = quantize.input[0], []
    chosen = view.maker(source, "Gather")
    flat = chosen is not None and _chooses_the_only(view, chosen) and view.only_reader(source, "QuantizeLinear")
    if chosen is not None and flat:
        nodes.append(chosen)
        source = chosen.input[0]
    norm = view.maker(source, "LayerNormalization")
    reader = "Gather" if nodes else "QuantizeLinear"
    if norm is not None and view.only_reader(source, reader) is not None and len(norm.output) == 1:
        scales, biases = (view.constant(name) for name in norm.input[1:3])
        plain = attribute(norm, "axis", _LAST) == _LAST and attribute(norm, "stash_type", 1) == 1
        if plain and scales is not None and biases is not None and scales.shape == biases.shape:
            found = Norm(scales, biases, float_attribute(norm, "epsilon", 1e-5))
            return norm.input[0], found, bool(nodes), [norm, *nodes]
    return quantize.input[0], None, False, []


def _chooses_the_only(view: GraphView, gather: NodeProto) -> bool:
    """Whether it takes position 0 of the axis of time, where a step has a single token for each row."""
    index = view.constant(gather.input[1])
    return (
        attribute(gather, "axis", 0) == 1
        and index is not None
        and index.shape == ()
        and int(index) in {0, -1}
        and view.size("input_ids", 1) == 1
    )


def _add(view: GraphView, unit: Unit, widths: dict[str, int]) -> None:
    """Take the addition behind the unit in, where the other side is known to be as wide."""
    add = view.only_reader(unit.output, "Add")
    if add is None:
        return
    other = add.input[1] if add.input[0] == unit.output else add.input[0]
    if widths.get(other) == unit.columns and not unit.flat:
        unit.addend, unit.output = other, add.output[0]
        unit.places.append(view.places[id(add)])


def chains_of(view: GraphView, units: list[Unit]) -> Iterator[list[Unit]]:
    """Units that read one another's results, as one run each.

    Whatever else a run needs is there before its first node: one addend from outside at the most.
    """
    run: list[Unit] = []
    for unit in units:
        if run and not _goes_on(view, run, unit):
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _goes_on(view: GraphView, run: list[Unit], unit: Unit) -> bool:
    if unit.input != run[-1].output or unit.flat or run[0].flat:
        return False
    inside = {one.output for one in run}
    outside = {one.addend for one in (*run, unit) if one.addend is not None} - inside
    begin = min(run[0].places)
    return len(outside) <= 1 and all(view.made_at(name) < begin for name in outside)
