"""Builds a tiny encoder-only bundle with random weights, straight from ONNX operators: no torch needed.

It classifies, tags, fills masks and embeds, and takes pairs of texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.unit.server.tiny import D_MODEL, HEAD_DIM, HEADS, Graph, info, write_manifest

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
LAYERS, SEGMENTS, SOURCE_TOKENS = 2, 2, 32
LABELS = ["travel", "weather", "food", "music", "home"]
TAGS = ["O", "B-PLACE", "I-PLACE", "B-ANIMAL", "I-ANIMAL"]
NOTE = "For tests: good for nothing."

SENTENCES = [
    "The harbour lies below the old town.",
    "Will it snow in the mountains on Sunday?",
    "Two eggs, a cup of flour and a little salt.",
    "Our neighbour plays the cello after supper.",
    "The grey heron stands in the pond again.",
    "Please water the plants while we are away.",
]


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE of about 300 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def build_encoder(vocabulary: int, seed: int = 3) -> onnx.ModelProto:
    """Self-attention over packed tokens, then every head."""
    g = Graph(seed)
    embedded = g.op("Gather", [g.weight(vocabulary, D_MODEL, scale=1.0), "input_ids"])
    x = g.op("Add", [embedded, g.op("Gather", [g.weight(SOURCE_TOKENS, D_MODEL), "positions"])])
    x = g.op("Add", [x, g.op("Gather", [g.weight(SEGMENTS, D_MODEL), "segments"])])  # (tokens, d_model)
    for _ in range(LAYERS):
        parts = [g.op("Gather", [g.linear(x, D_MODEL), "padded_index"]) for _ in range(3)]  # (batch, source, d_model)
        context = g.op("MultiHeadAttention", [*parts, "", "attention_mask"], domain="com.microsoft", num_heads=HEADS)
        flat = g.op("Reshape", [context, g.constant(np.array([-1, D_MODEL], np.int64))])
        x = g.norm(g.op("Add", [x, g.op("Gather", [flat, "packed_index"])]))
    states = g.op("Identity", [x], ["states"])
    pooled = g.op("Tanh", [g.linear(g.op("Gather", [states, "first_index"]), D_MODEL)])
    g.op("Identity", [g.linear(pooled, len(LABELS), scale=1.0)], ["label_logits"])
    g.op("Identity", [g.linear(states, len(TAGS), scale=1.0)], ["tag_logits"])
    hidden = g.norm(g.linear(g.op("Gather", [states, "mask_index"]), D_MODEL))
    never = np.zeros(vocabulary, np.float32)
    never[: len(SPECIALS)] = -1e4
    g.op("Add", [g.linear(hidden, vocabulary, scale=1.0), g.constant(never)], ["mask_logits"])
    inputs = [
        *(info(name, TensorProto.INT64, "tokens") for name in ("input_ids", "positions", "segments", "packed_index")),
        info("padded_index", TensorProto.INT64, "batch", "source"),
        info("attention_mask", TensorProto.INT32, "batch", "source"),
        info("first_index", TensorProto.INT64, "batch"),
        info("mask_index", TensorProto.INT64, "masks"),
    ]
    outputs = [
        info("states", TensorProto.FLOAT, "tokens", D_MODEL),
        info("label_logits", TensorProto.FLOAT, "batch", len(LABELS)),
        info("tag_logits", TensorProto.FLOAT, "tokens", len(TAGS)),
        info("mask_logits", TensorProto.FLOAT, "masks", vocabulary),
    ]
    return g.model(inputs, outputs)


def write_bundle(root: Path, name: str = "tiny-encoder", **changes: Any) -> Path:
    """Write a complete fp32 bundle into ``root`` and return it; ``changes`` replace entries of the manifest."""
    (root / "fp32").mkdir(parents=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(root / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    (root / "fp32" / "encoder.onnx").write_bytes(build_encoder(vocabulary).SerializeToString())
    manifest: dict[str, Any] = {
        "formatVersion": 1,
        "name": name,
        "family": "FAMILY_ENCODER",
        "tasks": ["TASK_CLASSIFY", "TASK_TAG", "TASK_FILL_MASK", "TASK_EMBED"],
        "dimensions": {
            "vocabulary": vocabulary,
            "dModel": D_MODEL,
            "numHeads": HEADS,
            "headDim": HEAD_DIM,
            "encoderLayers": LAYERS,
            "segments": SEGMENTS,
        },
        "specialIds": {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK},
        "limits": {"sourceTokens": SOURCE_TOKENS},
        "precisions": {"fp32": {"encoder": "fp32/encoder.onnx"}},
        "classifier": {"labels": LABELS, "outOfScopeThreshold": 0.3, "pairs": True},
        "tagger": {"tags": TAGS, "bio": True},
        "embeddingNote": NOTE,
    }
    write_manifest(root, manifest | changes)
    return root
