"""The step over pages computes what the step over whole rows does, whichever blocks its rows have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from dragoman_server.device import Device
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from tests.gpu.paged_graph import Pages, paged_graph
from tests.gpu.subjects import SUBJECTS

Array = npt.NDArray[Any]

PAGES = Pages(block=4, longest=16)
SUBJECT = SUBJECTS["tiny-decoder"]
ROWS, PREFIX, STEPS = 3, 8, 14


class PagedAttention(OpRun):
    """As onnxruntime's documentation has it, for one token of each row."""

    op_domain = "com.microsoft"

    def _run(self, query: Array, *others: Any, num_heads: int, kv_num_heads: int) -> tuple[Array, Array, Array]:
        key_cache, value_cache, steps, past, table = others[2:7]
        metadata = others[15]
        assert num_heads == kv_num_heads
        assert list(steps) == list(range(len(query) + 1))
        assert metadata[0] == 1
        assert past.max() < metadata[1]
        caches = [key_cache.copy(), value_cache.copy()]
        block, width = key_cache.shape[1], key_cache.shape[3]
        query, *new = query.reshape(len(query), 3, num_heads, width).transpose(1, 0, 2, 3)
        context = np.zeros_like(query)
        for row, length in enumerate(past):
            for cache, value in zip(caches, new, strict=True):
                cache[table[row, length // block], length % block] = value[row]
            seen = [cache[table[row]].reshape(-1, num_heads, width)[: length + 1] for cache in caches]
            scores = np.einsum("hd,thd->ht", query[row].astype(np.float32), seen[0]) / np.sqrt(width)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            context[row] = np.einsum("ht,thd->hd", weights / weights.sum(-1, keepdims=True), seen[1])
        return context.reshape(len(context), -1), *caches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("paged")
    paged_graph(SUBJECT.export(made).decoder, made / "paged.onnx", PAGES)
    return made


@pytest.mark.parametrize("shared", [0, PREFIX // PAGES.block], ids=["own blocks", "a shared prefix"])
def test_pages_give_what_whole_rows_do(folder: Path, shared: int) -> None:
    random = np.random.default_rng(3)
    tokens = random.integers(6, SUBJECT.config.vocabulary, (STEPS, ROWS))
    tokens[:PREFIX] = tokens[:PREFIX, :1]  # rows begin alike: those blocks may be the same
    runtime = SUBJECT.runtime(folder, Device(resident=True), ROWS)
    assert isinstance(runtime, OnnxPromptRuntime)
    runtime.prefill([6], 0)
    for row in range(ROWS):
        runtime.admit(row, 0)
    paged = ReferenceEvaluator(str(folder / "paged.onnx"), new_ops=[PagedAttention])
    shape = (ROWS * PAGES.of_row, PAGES.block, SUBJECT.config.num_heads, SUBJECT.config.head_dim)
    names = [name for name in paged.input_names if name.startswith("past_")]
    caches = {name: np.zeros(shape, np.float16) for name in names}
    for length, fed in enumerate(tokens):
        expected = runtime.step(fed).top_log_probs.copy()
        feeds = {
            "input_ids": fed[:, None],
            "lengths": np.full(ROWS, length, np.int32),
            "block_table": PAGES.table(ROWS, shared),
            "steps": np.arange(ROWS + 1, dtype=np.int32),
        }
        found = dict(zip(paged.output_names, paged.run(None, {**feeds, **caches}), strict=True))
        caches = {name: found[name.replace("past_", "present_")] for name in names}
        assert np.abs(found["top_log_probs"] - expected).max() < 0.02
    held = {block for block in range(shape[0]) if caches["past_key_0"][block].any()}
    blocks = -(-STEPS // PAGES.block)
    assert len(held) == ROWS * blocks - (ROWS - 1) * shared


def test_the_operator_is_used_as_onnxruntime_declares_it(folder: Path) -> None:
    (schema,) = (one for one in get_all_operator_schema() if one.name == "PagedAttention")
    nodes = [node for node in onnx.load(folder / "paged.onnx").graph.node if node.op_type == schema.name]
    assert len(nodes) == SUBJECT.config.decoder_layers
    for node in nodes:
        assert {one.name for one in node.attribute} <= set(schema.attributes)
        given = {declared.name: name for declared, name in zip(schema.inputs, node.input, strict=True) if name}
        assert given == {
            "query": node.input[0],
            "key_cache": node.input[3],
            "value_cache": node.input[4],
            "cumulative_sequence_length": "steps",
            "past_seqlens": "lengths",
            "block_table": "block_table",
            "attention_metadata": "attention_metadata",
        }
        assert [name.replace("present_", "past_") for name in node.output[1:]] == list(node.input[3:5])
