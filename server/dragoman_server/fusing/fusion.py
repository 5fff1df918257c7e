"""Rewrites a bundle's graph for the compiled operators: fewer nodes, which leave out what lies between.

What a bundle holds stays as it is: the graph is rewritten in memory, when a session is made of it. The operators are
in ``dragoman_server/kernels``, and compute the same to the bit as the nodes that they stand for do with the operators
of that library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dragoman_protos.onnx.graph_pb2 import ModelProto, NodeProto
from dragoman_server.fusing.attentions import packed_attentions, source_attentions
from dragoman_server.fusing.chain_library import ChainLibrary
from dragoman_server.fusing.embeddings import embeddings
from dragoman_server.fusing.graph_view import GraphView, attribute
from dragoman_server.fusing.linear_units import Unit, chains_of, find_units
from dragoman_server.fusing.replacement import DOMAIN, Replacement, add_input, made_node

WANTS_LOGITS = "wants_logits"
"""An input that a rewritten decoder has besides those of its bundle's: an integer, not 0 where logits are fetched."""
_MOST_RESULTS = 4
_MOST_LEADERS = 16
"""Candidates that the kernels keep of a row."""
_LAST = -1


@contextmanager
def fused(graph: Path, library: Path, *, threads: int = 1) -> Iterator[bytes]:
    """The rewritten graph, for the sessions that are made in the meantime; so many threads compute its chains together.

    DecodeError where the file is no protobuf.
    """
    model = ModelProto.FromString(graph.read_bytes())
    chains: list[int] = []
    builder = ChainLibrary(library)
    try:
        view = GraphView(model)
        bests = {best.node.input[0]: best for best in _bests(view)}
        found = [*embeddings(view), *packed_attentions(view), *source_attentions(model, view)]
        if builder.has_chains:
            for run in _chains(view, builder, chains, threads):
                best = bests.pop(run.node.output[0], None) if run.chooses else None
                found.append(run if best is None else _candidates(model, run, best))
        _replace(model, view, [*found, *bests.values()])
        yield model.SerializeToString()
    finally:
        for chain in chains:
            builder.release(chain)


def _chains(view: GraphView, builder: ChainLibrary, chains: list[int], threads: int) -> Iterator[Replacement]:
    for units in chains_of(view, find_units(view)):
        places = [place for unit in units for place in unit.places]
        kept = [view.read_outside(unit.output, set(places)) for unit in units]
        if sum(kept) > _MOST_RESULTS:
            continue
        chains.append(builder.build(units, kept))
        inside = {unit.output for unit in units}
        seconds = {unit.addend for unit in units if unit.addend is not None} - inside
        attributes = {"chain": chains[-1], "flat": int(units[0].flat), "threads": threads}
        outputs = [unit.output for unit, keep in zip(units, kept, strict=True) if keep]
        node = made_node("Chain", [units[0].input, *seconds], outputs, _name(units), attributes)
        chooses = len(units) == 1 and len(units[0].linears) == 1 and units[0].addend is None
        yield Replacement(node, places, chooses)


def _candidates(model: ModelProto, chain: Replacement, best: Replacement) -> Replacement:
    """Both as one, which gives the logits only where its new input says so."""
    add_input(model, WANTS_LOGITS)
    node = NodeProto()
    node.CopyFrom(chain.node)
    node.op_type = "Candidates"
    node.input.append(WANTS_LOGITS)
    node.output[:] = [*best.node.output, *chain.node.output]
    node.attribute.extend(best.node.attribute)
    return Replacement(node, [*chain.places, *best.places])


def _name(units: list[Unit]) -> str:
    return f"chain_to_{units[-1].output}"


def _bests(view: GraphView) -> Iterator[Replacement]:
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
        node = made_node("Best", softmax.input, top.output, top.name, {"k": int(count.item())})
        yield Replacement(node, [view.places[id(softmax)], view.places[id(top)]])


def _replace(model: ModelProto, view: GraphView, found: list[Replacement]) -> None:
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
    model.opset_import.add(domain=DOMAIN, version=1)
