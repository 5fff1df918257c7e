"""Rewrites a bundle's graph for the compiled operators: fewer nodes, which leave out what lies between.

What a bundle holds stays as it is: the graph is rewritten in memory, when a session is made of it. The operators are
in ``dragoman_server/kernels``, and compute the same to the bit as the nodes that they stand for do with the operators
of that library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dragoman_protos.onnx.graph_pb2 import (
    AttributeProto,
    ModelProto,
    NodeProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
)
from dragoman_server.fusing.chain_library import ChainLibrary
from dragoman_server.fusing.graph_view import GraphView, attribute
from dragoman_server.fusing.linear_units import Unit, chains_of, find_units

WANTS_LOGITS = "wants_logits"
"""An input that a rewritten decoder has besides those of its bundle's: an integer, not 0 where logits are fetched."""
ORIGINS = "source_origins"
"""An input that a rewritten decoder with sources has besides: integers (rows,), alike for rows whose sources' keys and
values are, and less than 0 for rows that share with none."""
_DOMAIN = "dragoman"
_INT64 = 7
"""ONNX's number of that type."""
_MOST_RESULTS = 4
_MOST_LEADERS = 16
"""Candidates that the kernels keep of a row."""
_LAST = -1
_ATTENTION_INPUTS = 14
_OF_SOURCES = ("cross_last_key_", "cross_last_value_", "cross_key_", "cross_value_", "cross_lengths", "cross_total")
"""How a decoder calls what an attention to sources reads, behind the query."""


class _Replacement(NamedTuple):
    node: NodeProto
    places: list[int]
    """Of the nodes that it stands for; it takes the place of the first."""
    chooses: bool = False
    """Whether it is a chain of a single linear map, of whose results the greatest may be chosen at once."""


@contextmanager
def fused(graph: Path, library: Path) -> Iterator[bytes]:
    """The rewritten graph, for the sessions that are made in the meantime.

    DecodeError where the file is no protobuf.
    """
    model = ModelProto.FromString(graph.read_bytes())
    chains: list[int] = []
    builder = ChainLibrary(library)
    try:
        view = GraphView(model)
        bests = {best.node.input[0]: best for best in _bests(view)}
        found = [*_packed_attentions(view), *_source_attentions(model, view)]
        if builder.has_chains:
            for run in _chains(view, builder, chains):
                best = bests.pop(run.node.output[0], None) if run.chooses else None
                found.append(run if best is None else _candidates(model, run, best))
        _replace(model, view, [*found, *bests.values()])
        yield model.SerializeToString()
    finally:
        for chain in chains:
            builder.release(chain)


def _chains(view: GraphView, builder: ChainLibrary, chains: list[int]) -> Iterator[_Replacement]:
    for units in chains_of(view, find_units(view)):
        places = [place for unit in units for place in unit.places]
        kept = [view.read_outside(unit.output, set(places)) for unit in units]
        if sum(kept) > _MOST_RESULTS:
            continue
        chains.append(builder.build(units, kept))
        inside = {unit.output for unit in units}
        seconds = {unit.addend for unit in units if unit.addend is not None} - inside
        attributes = {"chain": chains[-1], "flat": int(units[0].flat)}
        outputs = [unit.output for unit, keep in zip(units, kept, strict=True) if keep]
        node = _node("Chain", [units[0].input, *seconds], outputs, _name(units), attributes)
        chooses = len(units) == 1 and len(units[0].linears) == 1 and units[0].addend is None
        yield _Replacement(node, places, chooses)


def _candidates(model: ModelProto, chain: _Replacement, best: _Replacement) -> _Replacement:
    """Both as one, which gives the logits only where its new input says so."""
    _add_input(model, WANTS_LOGITS, TensorShapeProto())
    node = NodeProto()
    node.CopyFrom(chain.node)
    node.op_type = "Candidates"
    node.input.append(WANTS_LOGITS)
    node.output[:] = [*best.node.output, *chain.node.output]
    node.attribute.extend(best.node.attribute)
    return _Replacement(node, [*chain.places, *best.places])


def _name(units: list[Unit]) -> str:
    return f"chain_to_{units[-1].output}"


def _packed_attentions(view: GraphView) -> Iterator[_Replacement]:
    """Tokens laid out as a padded batch, attended to, and laid side by side again."""
    for attention in view.nodes:
        if attention.op_type != "MultiHeadAttention" or len(attention.input) < 5 or attention.input[3]:
            continue
        split = view.maker(attention.input[0], "Split")
        laid = view.maker(split.input[0], "Gather") if split is not None else None
        reshape = view.only_reader(attention.output[0], "Reshape")
        back = view.only_reader(reshape.output[0], "Gather") if reshape is not None else None
        if split is None or laid is None or reshape is None or back is None:
            continue
        alone = [view.only_reader(name, "MultiHeadAttention") is attention for name in split.output]
        if (
            (len(alone) == 3 and all(alone) and list(attention.input[:3]) == list(split.output))
            and (attribute(split, "axis", 0) in {2, _LAST} and view.only_reader(laid.output[0], "Split") is split)
            and (laid.input[1], attention.input[4], back.input[1]) == ("padded_index", "attention_mask", "packed_index")
            and (attribute(laid, "axis", 0), attribute(back, "axis", 0)) == (0, 0)
            and not attribute(attention, "unidirectional", 0)
        ):
            inputs = [laid.input[0], "padded_index", "attention_mask"]
            node = _node("PackedAttention", inputs, back.output, attention.name, {})
            node.attribute.extend(one for one in attention.attribute if one.name in {"num_heads", "scale"})
            nodes = (laid, split, attention, reshape, back)
            yield _Replacement(node, [view.places[id(one)] for one in nodes])


def _source_attentions(model: ModelProto, view: GraphView) -> Iterator[_Replacement]:
    """Attention that writes into its caches what stands there already: the last position of sources."""
    rows = TensorShapeProto(dim=[TensorShapeProto.Dimension()])
    for attention in view.nodes:
        if attention.op_type != "GroupQueryAttention" or len(attention.input) != _ATTENTION_INPUTS:
            continue
        query, *given, key_scales, value_scales = attention.input
        caches = given[: len(_OF_SOURCES)]
        if (
            all(map(str.startswith, caches, _OF_SOURCES))
            and all(map(view.is_input, caches))
            and not any(given[len(_OF_SOURCES) :])
            and view.size(caches[0], 1) == 1
            and attribute(attention, "num_heads", 0) == attribute(attention, "kv_num_heads", 0)
        ):
            if all(port.name != ORIGINS for port in model.graph.input):
                _add_input(model, ORIGINS, rows)
            inputs = [query, *caches[2:], ORIGINS, key_scales, value_scales]
            node = _node("SourceAttention", inputs, attention.output, attention.name, {})
            node.attribute.extend(attention.attribute)
            yield _Replacement(node, [view.places[id(attention)]])


def _bests(view: GraphView) -> Iterator[_Replacement]:
    """The greatest log-probabilities."""
    for softmax in view.nodes:
        top = view.only_reader(softmax.output[0], "TopK") if softmax.op_type == "LogSoftmax" else None
        if top is None or attribute(softmax, "axis", _LAST) != _LAST or attribute(top, "axis", _LAST) != _LAST:
            continue
        count = view.constant(top.input[1])
        if count is None or count.size != 1 or count.item() > _MOST_LEADERS:
            continue
        if not attribute(top, "largest", 1) or not attribute(top, "sorted", 1):
            continue
        node = _node("Best", softmax.input, top.output, top.name, {"k": int(count.item())})
        yield _Replacement(node, [view.places[id(softmax)], view.places[id(top)]])


def _add_input(model: ModelProto, name: str, shape: TensorShapeProto) -> None:
    """An input of 64-bit integers."""
    kind = TypeProto(tensor_type=TypeProto.Tensor(elem_type=_INT64, shape=shape))
    model.graph.input.append(ValueInfoProto(name=name, type=kind))


def _node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], name: str, attributes: Mapping[str, int]
) -> NodeProto:
    made = [AttributeProto(name=key, i=value, type=AttributeProto.INT) for key, value in attributes.items()]
    return NodeProto(op_type=operator, domain=_DOMAIN, input=inputs, output=outputs, name=name, attribute=made)


def _replace(model: ModelProto, view: GraphView, found: list[_Replacement]) -> None:
    new = {min(one.places): one.node for one in found}
    gone = {place for one in found for place in one.places}
    nodes = [new.get(place, node) for place, node in enumerate(view.nodes) if place in new or place not in gone]
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    model.opset_import.add(domain=_DOMAIN, version=1)
