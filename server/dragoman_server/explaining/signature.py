"""What ``explain.onnx`` of each family must look like."""

from __future__ import annotations

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions
from dragoman_server.graphs import Port, Signature

EXPLAIN = "explain.onnx"
"""Its usual path in a bundle."""

_INT64, _INT32, _FLOAT = ("tensor(int64)",), ("tensor(int32)",), ("tensor(float)",)


def explain_signature(family: Bundle.Family.ValueType, dimensions: Dimensions) -> Signature:
    """Inputs and outputs, teacher-forced over padded batches; weights are stacked over the layers."""
    ids = Port(_INT64, (None, None))
    lengths = Port(_INT32, (None,))
    encoder, decoder = (
        Port(_FLOAT, (None, layers, dimensions.num_heads, None, None))
        for layers in (dimensions.encoder_layers, dimensions.decoder_layers)
    )
    if family == Bundle.FAMILY_DECODER:
        return Signature({"input_ids": ids}, {"decoder_self": decoder})
    if family == Bundle.FAMILY_ENCODER:
        segments = {"segments": ids} if dimensions.segments else {}
        return Signature({"input_ids": ids, **segments, "lengths": lengths}, {"encoder_self": encoder})
    assert family == Bundle.FAMILY_ENCODER_DECODER
    return Signature(
        {"source_ids": ids, "source_lengths": lengths, "target_ids": ids},
        {"encoder_self": encoder, "decoder_self": decoder, "cross": decoder},
    )
