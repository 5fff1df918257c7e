"""Finds attention that the compiled operators compute in another way, with what stands around it."""

from __future__ import annotations

from collections.abc import Iterator

from dragoman_protos.onnx.graph_pb2 import ModelProto, NodeProto
from dragoman_server.fusing.graph_view import GraphView, attribute
from dragoman_server.fusing.replacement import Replacement, add_input, made_node

ORIGINS = "source_origins"
"""An input that a rewritten decoder with sources has besides: integers (rows,), alike for rows whose sources' keys and
values are, and less than 0 for rows that share with none."""
WANTS_ATTENTION = "wants_attention"
"""Another: an integer, not 0 where the attention to the source is fetched."""
_ATTENTION_INPUTS = 14
_WEIGHTS = 3
"""Which output of an attention they are."""
_LAST = -1
_OF_SOURCES = ("cross_last_key_", "cross_last_value_", "cross_key_", "cross_value_", "cross_lengths", "cross_total")
"""How a decoder calls what an attention to sources reads, behind the query."""
_HEADS_AND_QUERIES = [1, 2]
"""Axes of the weights."""


def packed_attentions(view: GraphView) -> Iterator[Replacement]:
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
            node = made_node("PackedAttention", inputs, back.output, attention.name)
            node.attribute.extend(one for one in attention.attribute if one.name in {"num_heads", "scale"})
            nodes = (laid, split, attention, reshape, back)
            yield Replacement(node, [view.places[id(one)] for one in nodes])


def source_attentions(model: ModelProto, view: GraphView) -> Iterator[Replacement]:
    """Attention that writes into its caches what stands there already: the last position of sources."""
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
            add_input(model, ORIGINS, axes=1)
            inputs = [query, *caches[2:], ORIGINS, key_scales, value_scales]
            outputs, nodes, attributes = list(attention.output), [attention], {}
            if (mean := _mean(view, attention)) is not None:
                add_input(model, WANTS_ATTENTION)
                inputs.append(WANTS_ATTENTION)
                outputs[_WEIGHTS], attributes = mean.output[0], {"mean": 1}
                nodes.append(mean)
            node = made_node("SourceAttention", inputs, outputs, attention.name, attributes)
            node.attribute.extend(attention.attribute)
            yield Replacement(node, [view.places[id(one)] for one in nodes])


def _mean(view: GraphView, attention: NodeProto) -> NodeProto | None:
    """The mean of the heads' weights, where the graph takes that and nothing else of them."""
    if len(attention.output) <= _WEIGHTS or not attention.output[_WEIGHTS]:
        return None
    mean = view.only_reader(attention.output[_WEIGHTS], "ReduceMean")
    axes = view.constant(mean.input[1]) if mean is not None and len(mean.input) > 1 else None
    if mean is None or axes is None or axes.tolist() != _HEADS_AND_QUERIES or attribute(mean, "keepdims", 1):
        return None
    return mean
