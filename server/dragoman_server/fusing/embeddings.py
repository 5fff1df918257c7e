"""Finds what a model begins with: the vectors of tokens and of their places, looked up and added."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from dragoman_protos.onnx.graph_pb2 import NodeProto
from dragoman_server.fusing.graph_view import GraphView, attribute
from dragoman_server.fusing.replacement import Replacement, made_node

_IDS, _POSITIONS, _LENGTHS = "input_ids", "positions", "lengths"
"""Inputs: of an encoder, ids and positions of its tokens; of a decoder, one id of each row, whose place is the number
of those before it."""
_FLOAT = 1
"""ONNX's number of that type."""

_Found = tuple[list[str], list[NodeProto]]
"""What the operator reads, and the nodes that it stands for."""


def embeddings(view: GraphView) -> Iterator[Replacement]:
    """Where the graph looks up nothing else by these indices."""
    for add in view.nodes:
        if add.op_type != "Add":
            continue
        for tokens, places in permutations(add.input):
            words, of_places = _tokens(view, tokens), _places(view, places)
            if words is None or of_places is None:
                continue
            (table, *scales), (place_table, index) = words[0], of_places[0]
            nodes = [add, *words[1], *of_places[1]]
            numbers = {view.places[id(node)] for node in nodes}
            if any(view.read_outside(name, numbers) for node in nodes[1:] for name in node.output):
                continue
            inputs = [_IDS, table, place_table, index, *scales]
            yield Replacement(
                made_node("Embedding", inputs, add.output, f"embedding_to_{add.output[0]}"), sorted(numbers)
            )
            break


def _tokens(view: GraphView, name: str) -> _Found | None:
    """The table of the ids' vectors, and where those are bytes their scales; in floats, wherever they come from."""
    gather = _lookup(view, name, _IDS)
    if gather is not None:
        return [gather.input[0]], [gather]
    if (cast := _cast(view, name)) is not None:
        gather = _lookup(view, cast.input[0], _IDS)
        return None if gather is None else ([gather.input[0]], [cast, gather])
    times = view.maker(name, "Mul")
    if times is None:
        return None
    cast, scale = _cast(view, times.input[0]), _lookup(view, times.input[1], _IDS)
    gather = None if cast is None else _lookup(view, cast.input[0], _IDS)
    if cast is None or gather is None or scale is None:
        return None
    return [gather.input[0], scale.input[0]], [times, cast, gather, scale]


def _places(view: GraphView, name: str) -> _Found | None:
    gather = view.maker(name, "Gather")
    if gather is None or attribute(gather, "axis", 0) or not view.is_constant(gather.input[0]):
        return None
    table, index = gather.input
    if index == _POSITIONS and view.axes(_IDS) == view.axes(_POSITIONS) == 1:
        return [table, index], [gather]
    apart = view.maker(index, "Unsqueeze")
    whole = None if apart is None else view.maker(apart.input[0], "Cast")
    if apart is None or whole is None or whole.input[0] != _LENGTHS:
        return None
    axes = view.constant(apart.input[1])
    if axes is None or axes.tolist() != [1] or view.axes(_LENGTHS) != 1 or view.size(_IDS, 1) != 1:
        return None
    return [table, _LENGTHS], [gather, apart, whole]


def _lookup(view: GraphView, name: str, index: str) -> NodeProto | None:
    gather = view.maker(name, "Gather")
    if gather is None or attribute(gather, "axis", 0) or not view.is_constant(gather.input[0]):
        return None
    return gather if gather.input[1] == index else None


def _cast(view: GraphView, name: str) -> NodeProto | None:
    cast = view.maker(name, "Cast")
    return cast if cast is not None and attribute(cast, "to", 0) == _FLOAT else None
