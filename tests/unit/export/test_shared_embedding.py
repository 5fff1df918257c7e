"""The embedding's table, stored once for the graphs of a bundle that read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch

from dragoman_export.encoder_quantization import observe_encoder, quantized_encoders
from dragoman_export.explain_graph import export_explain
from dragoman_export.explain_parity import attention_misses, measure_attention
from dragoman_export.graphs import export_graphs
from dragoman_export.language_graph import export_language_graph
from dragoman_export.language_quantization import observe_language_graph, quantized_language_graphs
from dragoman_export.quantization_plan import Attempt, observe, quantized_variants
from dragoman_export.shared_embedding import TABLE, SharedEmbedding, shared_embedding, with_weights
from dragoman_export.text_encoder_graph import export_text_encoder
from dragoman_model.families import ServedModel
from dragoman_model.language_model import LanguageModel
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions, Limits, SpecialIds
from dragoman_server.explaining.graph import ExplainGraph, ExplainInput
from dragoman_server.graphs import external_locations
from dragoman_server.pass_runtime import EncoderInput, OnnxPassRuntime
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from tests.unit.export import tiny_language_model, tiny_model, tiny_text_encoder

D_MODEL = 16
MAKERS: dict[str, Callable[[], ServedModel]] = {
    "encoder-decoder": lambda: tiny_model.make_model(d_model=D_MODEL, num_heads=2),
    "decoder": lambda: tiny_language_model.make_model(d_model=D_MODEL, num_heads=2),
    "encoder": lambda: tiny_text_encoder.make_model(d_model=D_MODEL, num_heads=2, labels=["no", "yes"]),
}
SOURCES = [[4, 17, 3], [5, 30, 31, 32, 33, 3], [4, 250, 3], [5, 77, 12, 40, 41, 3]]
TARGETS = [[9, 9], [8], [7, 6, 5], []]
INPUTS = {
    "encoder-decoder": [ExplainInput(source, [2, *target]) for source, target in zip(SOURCES, TARGETS, strict=True)],
    "decoder": [ExplainInput(target=[2, *source]) for source in SOURCES],
    "encoder": [ExplainInput(source) for source in SOURCES],
}


class Built(NamedTuple):
    """A model, and its graphs twice: with the table in a file of its own, and each with its own table."""

    family: str
    model: ServedModel
    shared: SharedEmbedding
    graphs: list[Path]
    own: list[Path]


def manifest(model: ServedModel) -> Bundle:
    config = model.config
    layers = {name: getattr(config, name, 0) for name in ("encoder_layers", "decoder_layers")}
    return Bundle(
        dimensions=Dimensions(
            vocabulary=config.vocabulary,
            d_model=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            top_k=16,
            **layers,
        ),
        special_ids=SpecialIds(pad=0, unk=1, bos=2, eos=3),
        limits=Limits(source_tokens=20, target_tokens=12),
    )


def int8_graphs(model: ServedModel, fp32: Path, folder: Path, shared: SharedEmbedding | None) -> list[Path]:
    attempts = [Attempt("range")]
    if isinstance(model, Transformer):
        observed = observe(export_graphs(model, fp32), manifest(model), SOURCES, TARGETS, threads=1)
        return [*next(quantized_variants(observed, folder, attempts, shared=shared)).paths]
    if isinstance(model, LanguageModel):
        seen = observe_language_graph(export_language_graph(model, fp32), SOURCES, threads=1)
        return [next(quantized_language_graphs(seen, folder, attempts, shared=shared)).path]
    seen = observe_encoder(export_text_encoder(model, fp32), [EncoderInput(ids) for ids in SOURCES], threads=1)
    return [next(quantized_encoders(seen, folder, attempts, shared=shared)).path]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    model, root = tiny_model.rounded_to_half(MAKERS[request.param]()), tmp_path_factory.mktemp("graphs")
    shared = shared_embedding(model, ["int8"], root / "one")
    assert shared is not None
    paths = [
        [
            *int8_graphs(model, root / f"{name}-fp32", root / name / "int8", table),
            export_explain(model, root / name / "explain.onnx", shared=table),
        ]
        for name, table in (("one", shared), ("own", None))
    ]
    return Built(request.param, model, shared, *paths)


def test_the_table_is_in_one_file_that_all_graphs_refer_to(built: Built) -> None:
    table = built.model.embedding.weight.detach().numpy() * np.float32(np.sqrt(D_MODEL))
    assert np.array_equal(np.frombuffer(built.shared.path.read_bytes(), "<f2").reshape(table.shape), table)
    *int8, explain = built.graphs
    assert {path: external_locations(path.read_bytes()) for path in built.graphs} == {
        **{path: {"embedding.bin"} for path in int8},
        explain: {TABLE},
    }
    assert with_weights(int8) == [int8[0], built.shared.path, *int8[1:]]
    assert with_weights(built.own) == built.own
    inside = [
        tensor.name
        for path in built.graphs
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tuple(tensor.dims) == table.shape and tensor.data_location != onnx.TensorProto.EXTERNAL
    ]
    assert inside == []


def test_every_graph_is_smaller_by_its_table(built: Built) -> None:
    numbers = built.shared.table.size
    for number, (path, own) in enumerate(zip(built.graphs, built.own, strict=True)):
        one_of_its_own = 2 * numbers if number == len(built.own) - 1 else numbers
        assert path.stat().st_size < own.stat().st_size - 0.9 * one_of_its_own, path


def test_the_attention_is_that_of_a_graph_with_its_own_table_and_pytorchs(built: Built) -> None:
    explain, own = built.graphs[-1], built.own[-1]
    measured = measure_attention(built.model, explain, INPUTS[built.family])
    assert list(attention_misses(measured)) == []
    for found, expected in zip(*(ExplainGraph(path).run(INPUTS[built.family]) for path in (explain, own)), strict=True):
        for kind, weights in vars(expected).items():
            assert np.array_equal(getattr(found, kind), weights), kind


def answers(built: Built, rows: list[int]) -> list[bytes]:
    """What the int8 graphs say of these sources in one batch, as bytes."""
    description = manifest(built.model)
    dimensions, limits = description.dimensions, description.limits
    asked = [SOURCES[row] for row in rows]
    if built.family == "encoder":
        passes = OnnxPassRuntime(built.graphs[0], dimensions=dimensions, limits=limits, max_rows=8)
        found = passes.run([EncoderInput(ids) for ids in asked])
        return [output.states.tobytes() for output in found]
    runtime: OnnxRuntime | OnnxPromptRuntime
    if built.family == "decoder":
        runtime = OnnxPromptRuntime(built.graphs[0], dimensions=dimensions, limits=limits, max_rows=8, prefill_chunk=8)
        for row, ids in enumerate(asked):
            runtime.prefill(ids, 0)
            runtime.admit(row, len(ids))
    else:
        runtime = OnnxRuntime(*built.graphs[:2], dimensions=dimensions, limits=limits, max_rows=8)
        runtime.encode(list(range(len(asked))), asked)
    tokens, history = [2] * len(asked), [b""] * len(asked)
    for _ in range(4):
        output = runtime.step(tokens)
        tokens = output.top_ids[:, 0].tolist()
        history = [
            seen + output.top_ids[row].tobytes() + output.top_log_probs[row].tobytes()
            for row, seen in enumerate(history)
        ]
    return history


def test_int8_gives_the_same_bits_alone_and_in_company(built: Built) -> None:
    together = answers(built, [0, 1, 2, 3])
    assert [answers(built, [row])[0] for row in range(len(SOURCES))] == together
    assert len(set(together)) == len(SOURCES)


def beyond_float16() -> ServedModel:
    model = tiny_model.rounded_to_half(tiny_model.make_model(d_model=D_MODEL, num_heads=2))
    with torch.no_grad():
        model.embedding.weight[5, 3] = 60000.0  # float16 holds it, and not four times as much
    return model


INEXACT: dict[str, Callable[[], ServedModel]] = {
    "not rounded": lambda: tiny_model.make_model(d_model=D_MODEL, num_heads=2),
    "a root that is no power of two": lambda: tiny_model.rounded_to_half(tiny_model.make_model(d_model=32)),
    "beyond float16": beyond_float16,
}


@pytest.mark.parametrize("make", INEXACT.values(), ids=INEXACT)
def test_what_float16_does_not_hold_is_not_shared(make: Callable[[], ServedModel], tmp_path: Path) -> None:
    assert shared_embedding(make(), ["int8", "fp32"], tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_without_int8_nothing_is_shared(tmp_path: Path) -> None:
    model = tiny_model.rounded_to_half(tiny_model.make_model(d_model=D_MODEL, num_heads=2))
    assert shared_embedding(model, ["fp32"], tmp_path) is None
    assert list(tmp_path.iterdir()) == []
