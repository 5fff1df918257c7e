"""Builds a tiny decoder-only bundle with random weights, straight from ONNX operators: no torch needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.unit.server.tiny import D_MODEL, HEAD_DIM, HEADS, LAYERS, TOP_K, Graph, info, write_manifest

SPECIALS = ["<pad>", "<unk>", "<s>", "</s>"]
PAD, UNK, BOS, EOS = range(4)
WINDOW = 40

SENTENCES = [
    "The ferry leaves the island at noon.",
    "An old clock ticks above the kitchen door.",
    "We picked blackberries along the railway line.",
    "Somebody left a blue umbrella in the library.",
    "The miller's cat sleeps on the warm flour sacks.",
]


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE of about 290 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def build_decoder(vocabulary: int, seed: int = 4, end: float = 1.0) -> onnx.ModelProto:
    """One token of each row, or several of one; ``end`` is added to end-of-text's logit."""
    g = Graph(seed)
    one = g.constant(np.array([1], np.int64))
    shape = g.op("Shape", ["input_ids"])
    time = g.op("Squeeze", [g.op("Slice", [shape, one, g.constant(np.array([2], np.int64))])])
    steps = g.op("Range", [g.constant(np.int64(0)), time, g.constant(np.int64(1))])
    begins = g.op("Unsqueeze", [g.op("Cast", ["lengths"], to=TensorProto.INT64), one])  # (rows, 1)
    positions = g.op("Add", [begins, steps])  # (rows, time)
    less_one = g.op("Sub", [g.op("Cast", [time], to=TensorProto.INT32), g.constant(np.int32(1))])
    seqlens = g.op("Add", ["lengths", less_one])
    embedded = g.op("Gather", [g.weight(vocabulary, D_MODEL, scale=1.0), "input_ids"])
    x = g.op("Add", [embedded, g.op("Gather", [g.weight(WINDOW, D_MODEL), positions])])  # (rows, time, d_model)
    inputs = [
        info("input_ids", TensorProto.INT64, "rows", "time"),
        info("lengths", TensorProto.INT32, "rows"),
        info("total_length", TensorProto.INT32),
    ]
    outputs = []
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            inputs.append(info(f"past_{kind}_{layer}", TensorProto.FLOAT, "rows", HEADS, "target", HEAD_DIM))
            outputs.append(info(f"present_{kind}_{layer}", TensorProto.FLOAT, "rows", HEADS, "target", HEAD_DIM))
        attended = g.op(
            "GroupQueryAttention",
            [g.linear(x, 3 * D_MODEL), "", "", f"past_key_{layer}", f"past_value_{layer}", seqlens, "total_length"],
            [f"self_{layer}", f"present_key_{layer}", f"present_value_{layer}"],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
        )
        x = g.norm(g.op("Add", [x, g.linear(attended, D_MODEL, scale=1.0)]))
    scores = np.zeros(vocabulary, np.float32)
    scores[:EOS], scores[EOS] = -1e4, end  # never pad or bos
    last = g.op("Gather", [x, g.constant(np.int64(-1))], axis=1)  # (rows, d_model)
    g.op("Add", [g.linear(last, vocabulary), g.constant(scores)], ["logits"])
    top = g.constant(np.array([TOP_K], np.int64))
    g.op("TopK", [g.op("LogSoftmax", ["logits"], axis=-1), top], ["top_log_probs", "top_ids"], axis=-1)
    outputs += [
        info("top_log_probs", TensorProto.FLOAT, "rows", TOP_K),
        info("top_ids", TensorProto.INT64, "rows", TOP_K),
        info("logits", TensorProto.FLOAT, "rows", vocabulary),
    ]
    return g.model(inputs, outputs)


def write_bundle(root: Path, end: float = 1.0) -> Path:
    """Write a complete fp32 bundle into ``root`` and return it."""
    (root / "fp32").mkdir(parents=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(root / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    (root / "generation.json").write_text(json.dumps({"maxLength": 20}))
    (root / "fp32" / "decoder.onnx").write_bytes(build_decoder(vocabulary, end=end).SerializeToString())
    manifest: dict[str, Any] = {
        "formatVersion": 1,
        "name": "tiny-decoder",
        "family": "FAMILY_DECODER",
        "tasks": ["TASK_GENERATE"],
        "dimensions": {
            "vocabulary": vocabulary,
            "dModel": D_MODEL,
            "numHeads": HEADS,
            "headDim": HEAD_DIM,
            "decoderLayers": LAYERS,
            "topK": TOP_K,
        },
        "specialIds": {"pad": PAD, "unk": UNK, "bos": BOS, "eos": EOS},
        "limits": {"targetTokens": WINDOW},
        "precisions": {"fp32": {"decoder": "fp32/decoder.onnx"}},
    }
    write_manifest(root, manifest)
    return root
