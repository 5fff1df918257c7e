from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.explain_graph import export_explain
from dragoman_export.explain_parity import attention_misses, measure_attention, reference_attention
from dragoman_export.half_weights import halve_exact_weights
from dragoman_model.config import Config, DecoderConfig, EncoderConfig
from dragoman_model.families import AnyModel, build_model
from dragoman_protos.v1.bundle_pb2 import AttentionMeasurement, Bundle, Dimensions
from dragoman_server.explaining.graph import ExplainGraph, ExplainInput
from dragoman_server.explaining.signature import explain_signature
from dragoman_server.graphs import check_graph

SIZES: dict[str, Any] = {"vocabulary": 60, "d_model": 16, "num_heads": 2, "d_ff": 32, "max_length": 24}
CONFIGS = {
    "encoder-decoder": Config(**SIZES, encoder_layers=2, decoder_layers=2, norm="post"),
    "decoder": DecoderConfig(**SIZES, decoder_layers=3),
    "encoder": EncoderConfig(**SIZES, encoder_layers=2, segments=2, labels=["yes", "no"]),
}
FAMILIES = {
    "encoder-decoder": Bundle.FAMILY_ENCODER_DECODER,
    "decoder": Bundle.FAMILY_DECODER,
    "encoder": Bundle.FAMILY_ENCODER,
}
SOURCE, OTHER, TARGET = [5, 7, 9, 11, 13, 3], [8, 3], [2, 20, 30, 40]
INPUTS = {
    "encoder-decoder": [ExplainInput(SOURCE, TARGET), ExplainInput(OTHER, [2]), ExplainInput([4] * 24, [2, *[6] * 23])],
    "decoder": [ExplainInput(target=TARGET), ExplainInput(target=[2]), ExplainInput(target=[2, *[6] * 23])],
    "encoder": [ExplainInput(SOURCE, segments=[0, 0, 0, 1, 1, 1]), ExplainInput(OTHER), ExplainInput([4] * 24)],
}


def half_exact(model: AnyModel) -> AnyModel:
    """With all weights such as a checkpoint in float16 has them."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.3 * torch.randn_like(parameter)).half().float())
    return model.eval()


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, AnyModel, Path]:
    model = half_exact(build_model(CONFIGS[request.param]))
    return request.param, model, export_explain(model, tmp_path_factory.mktemp(request.param) / "explain.onnx")


def test_weights_are_pytorchs_in_padded_batches_of_mixed_lengths(exported: tuple[str, AnyModel, Path]) -> None:
    family, model, path = exported
    measured = measure_attention(model, path, INPUTS[family])
    assert list(attention_misses(measured)) == []
    assert 0 < measured.max_weight_difference < 5e-6
    assert measured.sentences == 3


def test_a_padded_batch_is_as_alone(exported: tuple[str, AnyModel, Path]) -> None:
    family, _, path = exported
    graph = ExplainGraph(path)
    for one, together in zip(INPUTS[family], graph.run(INPUTS[family]), strict=True):
        (alone,) = graph.run([one])
        for kind, weights in vars(alone).items():
            if weights is not None:
                assert np.allclose(weights, getattr(together, kind), atol=1e-6), kind


def test_the_signature_is_what_loading_checks(exported: tuple[str, AnyModel, Path]) -> None:
    family, model, path = exported
    layers = {name: getattr(model.config, name, 0) for name in ("encoder_layers", "decoder_layers", "segments")}
    faults: list[str] = []
    check_graph("explain", path, explain_signature(FAMILIES[family], Dimensions(num_heads=2, **layers)), faults)
    assert faults == []
    layers["encoder_layers"] += 1
    layers["decoder_layers"] += 1
    check_graph("explain", path, explain_signature(FAMILIES[family], Dimensions(num_heads=2, **layers)), faults)
    assert faults


def test_only_what_weights_need_is_stored_and_in_half_the_bytes(exported: tuple[str, AnyModel, Path]) -> None:
    family, model, path = exported
    stored = {tensor.name: tensor for tensor in onnx.load_model(path).graph.initializer}
    weights = sum(np.prod(t.dims) for t in stored.values() if t.data_type == TensorProto.FLOAT16)
    d_model, d_ff = SIZES["d_model"], SIZES["d_ff"]
    last = 2 * d_model * d_ff + 2 * d_model * d_model  # the last feed-forward network, values and output projection
    assert weights <= sum(p.numel() for p in model.parameters() if p.dim() > 1) - last
    trained = [t for t in stored.values() if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 256]
    assert len(trained) <= (family == "encoder-decoder")  # the sinusoids, once for both sides


def test_another_models_graph_misses_the_limits(exported: tuple[str, AnyModel, Path]) -> None:
    family, _, path = exported
    torch.manual_seed(1)
    other = build_model(CONFIGS[family]).eval()
    measured = measure_attention(other, path, INPUTS[family])
    assert [miss for miss in attention_misses(measured) if "from PyTorch" in miss]


def test_the_reference_is_causal_and_sums_to_one() -> None:
    attention = reference_attention(half_exact(build_model(CONFIGS["decoder"])), ExplainInput(target=TARGET))
    assert attention.decoder_self is not None
    assert attention.decoder_self.shape == (3, 2, 4, 4)
    assert np.array_equal(np.triu(attention.decoder_self, 1), np.zeros_like(attention.decoder_self))
    assert np.allclose(attention.decoder_self.sum(axis=-1), 1.0)


def test_every_missed_limit_is_told() -> None:
    bad = AttentionMeasurement(max_weight_difference=float("nan"), max_sum_error=1e-3, max_padding_weight=1e-9)
    assert len(list(attention_misses(bad))) == 4


def test_constants_that_float16_does_not_hold_stay() -> None:
    exact, inexact = np.full((20, 20), 0.5, np.float32), np.full((20, 20), 0.1, np.float32)
    table = (np.arange(400, dtype=np.float32) / 8).reshape(20, 20)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "exact"], ["y"]),
        helper.make_node("MatMul", ["y", "exact"], ["z"]),
        helper.make_node("MatMul", ["z", "inexact"], ["out"]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in
               (("exact", exact), ("inexact", inexact), ("table", table))]  # fmt: skip
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ("n",))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 20))
    model = helper.make_model(helper.make_graph(nodes, "g", [ids], [out], weights), ir_version=10)
    before = onnx.ModelProto()
    before.CopyFrom(model)
    assert halve_exact_weights(model) == 2
    onnx.checker.check_model(model)
    feeds = {"ids": np.array([3, 19, 3])}
    (old,), (new,) = (onnx.reference.ReferenceEvaluator(each).run(None, feeds) for each in (before, model))
    assert np.array_equal(old, new)
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert types == {"exact": TensorProto.FLOAT16, "inexact": TensorProto.FLOAT, "table": TensorProto.FLOAT16}
