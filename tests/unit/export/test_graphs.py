from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch

from dragoman_export.graphs import GraphPaths, export_graphs, export_half_graphs
from dragoman_export.reference import forced_logits
from dragoman_export.stepping import SteppedGraphs
from dragoman_model.transformer import Transformer
from dragoman_server.graphs import cache_type
from dragoman_server.graphs_translation import check_pair
from tests.unit.export import tiny_model
from tests.unit.export.placement import copied_to_the_gpu

SOURCES = [[4, 17, 3], [5, 30, 31, 32, 33, 3], [4, 250, 9, 3], [5, 77, 12, 40, 41, 3]]
TARGETS = [[20, 21, 22, 23, 24], [90], [], [7, 7, 7]]

Exported = tuple[Transformer, GraphPaths]

CHOICES: list[dict[str, Any]] = [
    {"norm": "pre", "activation": "relu", "positions": "sinusoidal"},
    {"norm": "post", "activation": "gelu", "positions": "learned", "encoder_layers": 1, "decoder_layers": 3},
]


@pytest.fixture(scope="module", params=CHOICES, ids=["pre-relu-sinusoidal", "post-gelu-learned"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Transformer, GraphPaths]:
    model = tiny_model.make_model(**request.param)
    return model, export_graphs(model, tmp_path_factory.mktemp("graphs") / "fp32")


class Halved(NamedTuple):
    """A model, its graphs in float32, those in float16, and what the model's weights were before these were made."""

    model: Transformer
    paths: GraphPaths
    halves: GraphPaths
    before: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def halved(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Halved:
    model, paths = exported
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return Halved(model, paths, export_half_graphs(model, tmp_path_factory.mktemp("graphs") / "fp16"), before)


def stepped(paths: GraphPaths) -> SteppedGraphs:
    return SteppedGraphs(*paths, pad=0, bos=2, threads=1)


def test_logits_along_decodes_are_pytorchs(exported: Exported) -> None:
    model, paths = exported
    expected = forced_logits(model, SOURCES, TARGETS)  # one uncached forward pass
    graphs = stepped(paths)
    seen = 0
    for step in graphs.force(graphs.encode(SOURCES), TARGETS, ["logits"]):
        np.testing.assert_allclose(
            step.outputs["logits"][step.active], expected[step.active, step.number], rtol=0, atol=5e-5
        )
        seen += len(step.active)
    assert seen == sum(len(target) + 1 for target in TARGETS)


def test_the_best_candidates_are_those_of_the_logits(exported: Exported) -> None:
    _, paths = exported
    graphs = stepped(paths)
    step = next(graphs.force(graphs.encode(SOURCES), TARGETS, ["logits", "top_ids", "top_log_probs"]))
    log_probs = torch.from_numpy(step.outputs["logits"]).log_softmax(dim=-1)
    values, ids = log_probs.topk(16)
    assert step.outputs["top_ids"].tolist() == ids.tolist()
    np.testing.assert_allclose(step.outputs["top_log_probs"], values.numpy(), atol=1e-5)


def test_the_server_finds_the_ports_that_it_wants(exported: Exported) -> None:
    model, paths = exported
    dimensions = tiny_model.dimensions(model)
    assert check_pair(paths.encoder, paths.decoder, dimensions) == []


def test_neighbours_change_nothing_for_the_encoder(exported: Exported) -> None:
    _, paths = exported
    graphs = stepped(paths)
    together = graphs.encode(SOURCES)
    for row, source in enumerate(SOURCES):
        for name, value in graphs.encode([source]).feeds.items():
            batched = together.feeds[name][row]
            batched = batched if "last" in name else batched[:, : len(source)]
            np.testing.assert_array_equal(batched, value[0])


def test_the_last_token_is_the_end_of_the_cache(exported: Exported) -> None:
    _, paths = exported
    feeds = stepped(paths).encode(SOURCES).feeds
    for row, source in enumerate(SOURCES):
        cached = feeds["cross_key_0"][row, :, len(source) - 1].reshape(-1)  # (heads, head_dim) -> (d_model,)
        assert (cached == feeds["cross_last_key_0"][row, 0]).all()


def test_candidates_are_capped_by_the_vocabulary_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model.make_model(vocabulary=12, encoder_layers=1, decoder_layers=1)
    graphs = stepped(export_graphs(model, tmp_path))
    step = next(graphs.force(graphs.encode([[4, 5, 3]]), [[6]], ["top_ids"]))
    assert sorted(step.outputs["top_ids"][0].tolist()) == list(range(12))
    assert capsys.readouterr().out == ""


def test_float16_graphs_are_near_and_leave_the_model_as_it_was(halved: Halved) -> None:
    """Logits within a stated tolerance of PyTorch's, the same attention, and caches of half the bytes."""
    model, paths, halves, before = halved
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    dimensions = tiny_model.dimensions(model)
    assert check_pair(halves.encoder, halves.decoder, dimensions) == []
    assert check_pair(paths.encoder, halves.decoder, dimensions) != []
    assert cache_type(halves.decoder) == "float16"
    expected, full, half = forced_logits(model, SOURCES, TARGETS), stepped(paths), stepped(halves)
    lengths = np.array([len(source) for source in SOURCES])[:, None]
    wanted = ["logits", "cross_attention"]
    both = zip(
        full.force(full.encode(SOURCES), TARGETS, wanted),
        half.force(half.encode(SOURCES), TARGETS, wanted),
        strict=True,
    )
    for one, other in both:
        np.testing.assert_allclose(
            other.outputs["logits"][other.active], expected[other.active, other.number], rtol=0, atol=0.02
        )
        weights, found = one.outputs["cross_attention"], other.outputs["cross_attention"]
        real = np.arange(weights.shape[1]) < lengths
        np.testing.assert_allclose(found, np.where(real, weights, 0), rtol=0, atol=5e-3)


def test_no_operator_of_float16_graphs_lacks_a_kernel_for_cuda(halved: Halved) -> None:
    """Attention over caches gives no weights there, and nothing that is computed over caches is float32."""
    halves = halved.halves
    decoder = onnx.load(halves.decoder)
    attention = [node for node in decoder.graph.node if node.op_type == "GroupQueryAttention"]
    assert attention
    for node in attention:
        assert len([name for name in node.output if name]) == 3
        assert "qk_output" not in {attribute.name for attribute in node.attribute}
    assert copied_to_the_gpu(halves.decoder) == []
    kinds = {tensor.data_type for tensor in decoder.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
