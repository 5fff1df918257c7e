"""What an encoder-decoder bundle must hold: the values of its manifest, and its two graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.bundle_rules import FamilyRules
from dragoman_server.graphs import CACHE, FLOAT, FLOATS, INT32, INT64, Port, Signature, check_graph


def encoder_signature(dimensions: Dimensions) -> Signature:
    """Inputs and outputs of ``encoder.onnx``; ``dragoman_server.packing`` says what the inputs mean."""
    caches = 2 * dimensions.decoder_layers
    inputs = {
        "input_ids": Port(INT64, (None,)),
        "positions": Port(INT64, (None,)),
        "padded_index": Port(INT64, (None, None)),
        "attention_mask": Port(INT32, (None, None)),
        "packed_index": Port(INT64, (None,)),
        "last_index": Port(INT64, (None,)),
    }
    outputs = {
        "cross": Port(CACHE, (caches, dimensions.num_heads, None, dimensions.head_dim)),
        "cross_last": Port(FLOATS, (caches, None, 1, dimensions.d_model)),
    }
    return Signature(inputs, outputs)


def decoder_signature(dimensions: Dimensions) -> Signature:
    """Inputs and outputs of ``decoder.onnx``."""
    inputs = {
        "input_ids": Port(INT64, (None, 1)),
        "lengths": Port(INT32, (None,)),
        "total_length": Port(INT32, ()),
        "cross_lengths": Port(INT32, (None,)),
        "cross_total": Port(INT32, ()),
    }
    outputs = {
        "top_log_probs": Port(FLOAT, (None, dimensions.top_k)),
        "top_ids": Port(INT64, (None, dimensions.top_k)),
        "logits": Port(FLOAT, (None, dimensions.vocabulary)),
        "cross_attention": Port(FLOAT, (None, None)),
    }
    cache = Port(CACHE, (None, dimensions.num_heads, None, dimensions.head_dim))
    for layer in range(dimensions.decoder_layers):
        for kind in ("key", "value"):
            inputs[f"past_{kind}_{layer}"] = outputs[f"present_{kind}_{layer}"] = cache
            inputs[f"cross_{kind}_{layer}"] = outputs[f"present_cross_{kind}_{layer}"] = cache
            inputs[f"cross_last_{kind}_{layer}"] = Port(FLOATS, (None, 1, dimensions.d_model))
    return Signature(inputs, outputs)


def check_pair(encoder: Path, decoder: Path, dimensions: Dimensions) -> list[str]:
    """Faults of two graph files whose bytes are already trusted; empty where they fit."""
    faults: list[str] = []
    encoder_types = check_graph("encoder", encoder, encoder_signature(dimensions), faults)
    types = check_graph("decoder", decoder, decoder_signature(dimensions), faults)
    if not encoder_types or not types:
        return faults
    # What is written in place, or copied from one graph to the other, must have one type.
    for layer in range(dimensions.decoder_layers):
        for kind in ("key", "value"):
            past, cross = f"past_{kind}_{layer}", f"cross_{kind}_{layer}"
            pairs = [(past, types, f"present_{kind}_{layer}", types)]
            pairs += [("past_key_0", types, past, types), ("cross_key_0", types, cross, types)]
            pairs += [(cross, types, f"present_{cross}", types), (cross, types, "cross", encoder_types)]
            pairs += [(f"cross_last_{kind}_{layer}", types, "cross_last", encoder_types)]
            for left, left_types, right, right_types in pairs:
                a, b = left_types.get(left), right_types.get(right)
                if a and b and a != b:
                    graph = "encoder" if right_types is encoder_types else "decoder"
                    faults.append(f"{graph} {right}: type {b}, but the decoder's input {left} has {a}")
    return faults


def _check(graphs: Mapping[str, Path], manifest: Bundle) -> list[str]:
    return check_pair(graphs["encoder"], graphs["decoder"], manifest.dimensions)


def _manifest_faults(manifest: Bundle) -> Iterator[str]:
    limits = manifest.limits
    if limits.source_tokens < 3:
        yield f"limits.source_tokens = {limits.source_tokens}: at least 3 (tag, one token, end-of-sentence)"
    if limits.target_tokens < 1:
        yield f"limits.target_tokens = {limits.target_tokens}: at least 1"
    if not manifest.languages:
        yield "languages = []: at least one"


TRANSLATION_RULES = FamilyRules(
    tasks=frozenset({Bundle.TASK_TRANSLATE}),
    roles=("encoder", "decoder"),
    dimensions=("vocabulary", "d_model", "num_heads", "head_dim", "decoder_layers", "top_k"),
    special_ids=("pad", "bos", "eos"),
    manifest_faults=_manifest_faults,
    graph_faults=_check,
)
