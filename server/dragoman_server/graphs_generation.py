"""What a decoder-only bundle must hold: the values of its manifest, and its one graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.bundle_rules import FamilyRules
from dragoman_server.graphs import CACHE, FLOAT, INT32, INT64, Port, Signature, check_graph


def prompt_decoder_signature(dimensions: Dimensions) -> Signature:
    """Inputs and outputs of a language model's ``decoder.onnx``.

    One token for each of many rows, or several tokens of one row: GroupQueryAttention takes no more with a cache.
    """
    inputs = {
        "input_ids": Port(INT64, (None, None)),
        "lengths": Port(INT32, (None,)),
        "total_length": Port(INT32, ()),
    }
    outputs = {
        "top_log_probs": Port(FLOAT, (None, dimensions.top_k)),
        "top_ids": Port(INT64, (None, dimensions.top_k)),
        "logits": Port(FLOAT, (None, dimensions.vocabulary)),
    }
    cache = Port(CACHE, (None, dimensions.num_heads, None, dimensions.head_dim))
    for layer in range(dimensions.decoder_layers):
        for kind in ("key", "value"):
            inputs[f"past_{kind}_{layer}"] = outputs[f"present_{kind}_{layer}"] = cache
    return Signature(inputs, outputs)


def check_prompt_decoder(decoder: Path, dimensions: Dimensions) -> list[str]:
    """Faults of a graph file whose bytes are already trusted; empty where it fits."""
    faults: list[str] = []
    types = check_graph("decoder", decoder, prompt_decoder_signature(dimensions), faults)
    first = types.get("past_key_0")
    # All caches lie in one array, and are written in place.
    faults += [
        f"decoder {name}: type {found}, but the decoder's input past_key_0 has {first}"
        for name, found in types.items()
        if name.startswith(("past_", "present_")) and first and found != first
    ]
    return faults


def _check(graphs: Mapping[str, Path], manifest: Bundle) -> list[str]:
    return check_prompt_decoder(graphs["decoder"], manifest.dimensions)


def _manifest_faults(manifest: Bundle) -> Iterator[str]:
    limits = manifest.limits
    if limits.source_tokens:
        yield f"limits.source_tokens = {limits.source_tokens}: 0, since a decoder has no source"
    if limits.target_tokens < 2:
        yield f"limits.target_tokens = {limits.target_tokens}: at least 2 (a prompt's token and one after it)"
    if manifest.languages:
        yield f"languages: {len(manifest.languages)}, but FAMILY_DECODER has none"


GENERATION_RULES = FamilyRules(
    tasks=frozenset({Bundle.TASK_GENERATE}),
    roles=("decoder",),
    dimensions=("vocabulary", "d_model", "num_heads", "head_dim", "decoder_layers", "top_k"),
    special_ids=("pad", "bos", "eos"),
    manifest_faults=_manifest_faults,
    graph_faults=_check,
)
