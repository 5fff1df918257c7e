"""A language model's graph against PyTorch, in float32 and in int8."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dragoman_export.language_graph import export_half_language_graph, export_language_graph
from dragoman_export.language_measuring import stepped_logits
from dragoman_export.language_quantization import observe_language_graph, quantized_language_graphs
from dragoman_export.language_reference import continue_greedily, forced_logits
from dragoman_export.quantization_plan import ATTEMPTS
from dragoman_model.generation import generate
from dragoman_model.language_model import LanguageModel
from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.graphs import cache_type
from dragoman_server.graphs_generation import check_prompt_decoder
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from tests.unit.export import tiny_language_model, tiny_model
from tests.unit.export.placement import copied_to_the_gpu

WINDOW = 48
CHOICES = [
    {"norm": "pre", "activation": "gelu", "positions": "learned"},
    {"norm": "post", "activation": "relu", "positions": "sinusoidal", "decoder_layers": 3},
]
Floats = npt.NDArray[np.float32]


class Exported(NamedTuple):
    """A tiny model and its graphs."""

    model: LanguageModel
    dimensions: Dimensions
    fp32: Path
    int8: Path


@pytest.fixture(scope="module", params=CHOICES, ids=["pre-gelu-learned", "post-relu-sinusoidal"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, folder = tiny_language_model.make_model(**request.param), tmp_path_factory.mktemp("graphs")
    dimensions = tiny_model.dimensions(model)
    fp32 = export_language_graph(model, folder / "fp32")
    observed = observe_language_graph(fp32, texts(20, seed=9), threads=1)
    return Exported(model, dimensions, fp32, next(quantized_language_graphs(observed, folder / "int8")).path)


def texts(count: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[2, *random.integers(4, 300, random.integers(2, WINDOW - 1)).tolist()] for _ in range(count)]


def runtime(exported: Exported, precision: str, *, max_rows: int = 6, prefill_chunk: int = 7) -> OnnxPromptRuntime:
    return OnnxPromptRuntime(
        exported.fp32 if precision == "fp32" else exported.int8,
        dimensions=exported.dimensions,
        limits=Limits(target_tokens=WINDOW),
        max_rows=max_rows,
        prefill_chunk=prefill_chunk,
    )


def split(ids: list[int]) -> tuple[list[int], list[int]]:
    """A prompt, and what is fed after it."""
    return ids[: 1 + len(ids) // 2], ids[1 + len(ids) // 2 :]


def test_the_server_finds_the_ports_that_it_wants(exported: Exported) -> None:
    for path in (exported.fp32, exported.int8):
        assert check_prompt_decoder(path, exported.dimensions) == []


def test_logits_after_a_prompt_in_chunks_and_along_what_follows_are_pytorchs(exported: Exported) -> None:
    prompts, fed = zip(*map(split, texts(6)), strict=True)
    for prompt, ids, found in zip(prompts, fed, stepped_logits(runtime(exported, "fp32"), prompts, fed), strict=True):
        np.testing.assert_allclose(found, forced_logits(exported.model, prompt, ids), rtol=0, atol=5e-5)


def test_reference_logits_are_those_of_the_whole_text(exported: Exported) -> None:
    prompt, fed = split(texts(1)[0])
    with torch.no_grad():
        whole = exported.model(torch.tensor([[*prompt, *fed]]))[0].numpy()
    np.testing.assert_allclose(forced_logits(exported.model, prompt, fed), whole[len(prompt) - 1 :], atol=1e-6)


def test_prompts_side_by_side_go_on_as_they_do_one_by_one() -> None:
    model = tiny_language_model.make_model(29, vocabulary=12)  # some texts end early
    random = np.random.default_rng(1)
    prompts = [[2, *random.integers(4, 12, size).tolist()] for size in (3, 7, 3, 0, 7, 3, 20)]
    found = continue_greedily(model, prompts, 20)
    assert found == generate(model, prompts, 20)
    assert len({len(ids) for ids in found}) > 1


def test_every_way_to_quantise_stays_near_float_and_says_what_it_is(exported: Exported, tmp_path: Path) -> None:
    observed = observe_language_graph(exported.fp32, texts(20, seed=9), threads=1)
    prompts, fed = zip(*map(split, texts(3)), strict=True)
    expected = [forced_logits(exported.model, prompt, ids) for prompt, ids in zip(prompts, fed, strict=True)]
    descriptions = []
    for variant in quantized_language_graphs(observed, tmp_path):
        rough = exported._replace(int8=variant.path)
        for left, right in zip(stepped_logits(runtime(rough, "int8"), prompts, fed), expected, strict=True):
            np.testing.assert_allclose(left, right, atol=0.6)
        descriptions.append(variant.description)
    assert len(set(descriptions)) == len(ATTEMPTS)


def test_every_token_is_observed_where_the_graph_keeps_the_last_alone(exported: Exported) -> None:
    windows = texts(3)
    observed = observe_language_graph(exported.fp32, windows, threads=1)
    tokens = sum(map(len, windows))
    for statistics in observed.calibration.tensors.values():
        assert statistics.histogram.counts.sum() == tokens * len(statistics.channel_low)


@pytest.mark.parametrize("prefill_chunk", [1, 5, 16, WINDOW])
def test_int8_caches_of_a_prompt_are_near_those_of_steps(exported: Exported, prefill_chunk: int) -> None:
    """Chunks attend to what the caches hold, as steps do: the same 8-bit keys and values."""
    chunked = runtime(exported, "int8", max_rows=1, prefill_chunk=prefill_chunk)
    for ids in texts(4, seed=5):
        (found,) = stepped_logits(chunked, [ids], [[]])
        stepped = stepped_logits(chunked, [ids[:1]], [ids[1:]])[0][-1:]
        np.testing.assert_allclose(found, stepped, atol=0.05)


def decode(exported: Exported, prompts: list[list[int]]) -> list[list[bytes]]:
    """Candidates and scores of eight greedy steps, as bytes, for prompts that join one after the other."""
    lane = runtime(exported, "int8")
    history: list[list[bytes]] = [[] for _ in prompts]
    tokens: list[int] = []
    for turn in range(len(prompts) + 8):
        if turn < len(prompts):
            prompt = prompts[turn]
            for begin in range(0, len(prompt) - 1, lane.prefill_chunk):
                lane.prefill(prompt[begin : min(begin + lane.prefill_chunk, len(prompt) - 1)], begin)
            lane.admit(turn, len(prompt) - 1)
            tokens.append(prompt[-1])
        output = lane.step(tokens)
        tokens = output.top_ids[:, 0].tolist()
        for row in range(len(tokens)):
            history[row].append(output.top_ids[row].tobytes() + output.top_log_probs[row].tobytes())
    return [steps[:8] for steps in history]


def test_int8_gives_the_same_bits_alone_and_in_any_company(exported: Exported) -> None:
    prompts = [ids[:20] for ids in texts(5, seed=7)]
    together = decode(exported, prompts)
    for prompt, expected in zip(prompts, together, strict=True):
        assert decode(exported, [prompt]) == [expected]


def test_candidates_are_capped_by_the_vocabulary_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_language_model.make_model(vocabulary=12, decoder_layers=1)
    path = export_language_graph(model, tmp_path)
    dimensions = Dimensions(vocabulary=12, d_model=32, num_heads=4, head_dim=8, decoder_layers=1, top_k=12)
    assert check_prompt_decoder(path, dimensions) == []
    assert capsys.readouterr().out == ""


def test_a_float16_graph_is_near_pytorch(exported: Exported, tmp_path: Path) -> None:
    """Prompts in chunks and steps after them, with caches in float16; the model stays as it was."""
    half = export_half_language_graph(exported.model, tmp_path)
    assert {parameter.dtype for parameter in exported.model.parameters()} == {torch.float32}
    assert check_prompt_decoder(half, exported.dimensions) == []
    assert cache_type(half) == "float16"
    assert copied_to_the_gpu(half) == []
    assert copied_to_the_gpu(exported.fp32) != []  # its positions begin as a range
    parts = [split(ids) for ids in texts(6, seed=3)]
    found = stepped_logits(
        runtime(exported._replace(fp32=half), "fp32"), [prompt for prompt, _ in parts], [fed for _, fed in parts]
    )
    for (prompt, fed), logits in zip(parts, found, strict=True):
        np.testing.assert_allclose(logits, forced_logits(exported.model, prompt, fed), rtol=0, atol=0.03)
