"""Builds a tiny encoder-decoder bundle with random weights, straight from ONNX operators: no torch needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIALS = ["<pad>", "<unk>", "<s>", "</s>", "<2de>", "<2en>"]
PAD, UNK, BOS, EOS, DE, EN = range(6)
D_MODEL, HEADS, HEAD_DIM, LAYERS, TOP_K = 16, 2, 8, 2, 16
SOURCE_TOKENS, TARGET_TOKENS = 32, 24

SENTENCES = [
    "The harbour lies below the old town.",
    "Nobody has seen the green bicycle today.",
    "My sister grows tomatoes and beans behind the house.",
    "Der Hafen liegt unterhalb der alten Stadt.",
    "Niemand hat heute das grüne Fahrrad gesehen.",
    "Meine Schwester zieht Tomaten und Bohnen hinter dem Haus.",
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


class Graph:
    """Collects nodes and weights; ``op`` returns the name of the first output."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def weight(self, *shape: int, scale: float = 0.5) -> str:
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def op(
        self, kind: str, inputs: list[str], outputs: list[str] | None = None, domain: str = "", **attributes: Any
    ) -> str:
        outputs = outputs or [f"t{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def linear(self, x: str, width: int, scale: float = 0.5) -> str:
        return self.op("MatMul", [x, self.weight(D_MODEL, width, scale=scale)])

    def norm(self, x: str) -> str:
        ones, zeros = np.ones(D_MODEL, np.float32), np.zeros(D_MODEL, np.float32)
        return self.op("LayerNormalization", [x, self.constant(ones), self.constant(zeros)], axis=-1)

    def model(self, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def info(name: str, element: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def build_encoder(vocabulary: int, seed: int = 1) -> onnx.ModelProto:
    """One layer of self-attention, then the cross keys and values of every decoder layer."""
    g = Graph(seed)
    embedded = g.op("Gather", [g.weight(vocabulary, D_MODEL, scale=1.0), "input_ids"])
    x = g.op("Add", [embedded, g.op("Gather", [g.weight(SOURCE_TOKENS, D_MODEL), "positions"])])  # (tokens, d_model)
    padded = g.op("Gather", [x, "padded_index"])  # (batch, source, d_model)
    real = g.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    bias = g.op("Mul", [g.op("Sub", [real, g.constant(np.float32(1))]), g.constant(np.float32(1e9))])
    bias = g.op("Unsqueeze", [bias, g.constant(np.array([1], np.int64))])  # (batch, 1, source)
    keys = g.op("Transpose", [g.linear(padded, D_MODEL)], perm=[0, 2, 1])
    weights = g.op("Softmax", [g.op("Add", [g.op("MatMul", [g.linear(padded, D_MODEL), keys]), bias])], axis=-1)
    context = g.op("MatMul", [weights, g.linear(padded, D_MODEL)])
    flat = g.op("Reshape", [context, g.constant(np.array([-1, D_MODEL], np.int64))])
    x = g.norm(g.op("Add", [x, g.op("Gather", [flat, "packed_index"])]))
    projected = g.linear(x, 2 * LAYERS * D_MODEL, scale=1.0)
    split = g.constant(np.array([-1, 2 * LAYERS, HEADS, HEAD_DIM], np.int64))
    g.op("Transpose", [g.op("Reshape", [projected, split])], ["cross"], perm=[1, 2, 0, 3])
    split = g.constant(np.array([-1, 2 * LAYERS, 1, D_MODEL], np.int64))
    last = g.op("Gather", [projected, "last_index"])
    g.op("Transpose", [g.op("Reshape", [last, split])], ["cross_last"], perm=[1, 0, 2, 3])
    inputs = [
        info("input_ids", TensorProto.INT64, "tokens"),
        info("positions", TensorProto.INT64, "tokens"),
        info("padded_index", TensorProto.INT64, "batch", "source"),
        info("attention_mask", TensorProto.INT32, "batch", "source"),
        info("packed_index", TensorProto.INT64, "tokens"),
        info("last_index", TensorProto.INT64, "batch"),
    ]
    outputs = [
        info("cross", TensorProto.FLOAT, 2 * LAYERS, HEADS, "tokens", HEAD_DIM),
        info("cross_last", TensorProto.FLOAT, 2 * LAYERS, "batch", 1, D_MODEL),
    ]
    return g.model(inputs, outputs)


def build_decoder(vocabulary: int, seed: int = 2, unknown: float = -1e4) -> onnx.ModelProto:
    """One step; self- and cross-attention are GroupQueryAttention, whose caches are written in place.

    ``unknown`` is added to the unknown token's logit; as it is, that never comes.
    """
    g = Graph(seed)
    token = g.op("Gather", [g.weight(vocabulary, D_MODEL, scale=1.0), "input_ids"])
    positions = g.op("Unsqueeze", ["lengths", g.constant(np.array([1], np.int64))])  # (rows, 1)
    x = g.op("Add", [token, g.op("Gather", [g.weight(TARGET_TOKENS, D_MODEL), positions])])
    inputs = [
        info("input_ids", TensorProto.INT64, "rows", 1),
        info("lengths", TensorProto.INT32, "rows"),
        info("total_length", TensorProto.INT32),
        info("cross_lengths", TensorProto.INT32, "rows"),
        info("cross_total", TensorProto.INT32),
    ]
    outputs = []
    for layer in range(LAYERS):
        names = {}
        for kind in ("key", "value"):
            for prefix, present, time in (("past", "present", "target"), ("cross", "present_cross", "source")):
                shape = ("rows", HEADS, time, HEAD_DIM)
                inputs.append(info(f"{prefix}_{kind}_{layer}", TensorProto.FLOAT, *shape))
                outputs.append(info(f"{present}_{kind}_{layer}", TensorProto.FLOAT, *shape))
            inputs.append(info(f"cross_last_{kind}_{layer}", TensorProto.FLOAT, "rows", 1, D_MODEL))
            names[kind] = f"{kind}_{layer}"
        k, v = names["key"], names["value"]
        attended = g.op(
            "GroupQueryAttention",
            [g.linear(x, 3 * D_MODEL), "", "", f"past_{k}", f"past_{v}", "lengths", "total_length"],
            [f"self_{layer}", f"present_{k}", f"present_{v}"],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
        )
        x = g.norm(g.op("Add", [x, g.linear(attended, D_MODEL)]))
        cross = [f"cross_last_{k}", f"cross_last_{v}", f"cross_{k}", f"cross_{v}", "cross_lengths", "cross_total"]
        attended = g.op(
            "GroupQueryAttention",
            [g.linear(x, D_MODEL), *cross],
            [f"source_{layer}", f"present_cross_{k}", f"present_cross_{v}", f"weights_{layer}"],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
            qk_output=2,  # after the softmax
        )
        x = g.norm(g.op("Add", [x, g.linear(attended, D_MODEL, scale=1.0)]))
    heads = g.constant(np.array([1, 2], np.int64))
    g.op("ReduceMean", [f"weights_{LAYERS - 1}", heads], ["cross_attention"], keepdims=0)
    scores = np.zeros(vocabulary, np.float32)
    scores[:EOS], scores[EOS] = -1e4, 2.0  # never pad or bos; often enough the end
    scores[UNK] = unknown
    logits = g.op("Squeeze", [g.linear(x, vocabulary), g.constant(np.array([1], np.int64))])
    g.op("Add", [logits, g.constant(scores)], ["logits"])
    top = g.constant(np.array([TOP_K], np.int64))
    g.op("TopK", [g.op("LogSoftmax", ["logits"], axis=-1), top], ["top_log_probs", "top_ids"], axis=-1)
    outputs += [
        info("top_log_probs", TensorProto.FLOAT, "rows", TOP_K),
        info("top_ids", TensorProto.INT64, "rows", TOP_K),
        info("logits", TensorProto.FLOAT, "rows", vocabulary),
        info("cross_attention", TensorProto.FLOAT, "rows", "attended"),
    ]
    return g.model(inputs, outputs)


def write_bundle(root: Path, unknown: float = -1e4) -> Path:
    """Write a complete fp32 bundle into ``root`` and return it."""
    (root / "fp32").mkdir(parents=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(root / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    (root / "generation.json").write_text(json.dumps({"maxLength": 20}))
    (root / "fp32" / "encoder.onnx").write_bytes(build_encoder(vocabulary).SerializeToString())
    (root / "fp32" / "decoder.onnx").write_bytes(build_decoder(vocabulary, unknown=unknown).SerializeToString())
    manifest: dict[str, Any] = {
        "formatVersion": 1,
        "name": "tiny",
        "family": "FAMILY_ENCODER_DECODER",
        "tasks": ["TASK_TRANSLATE"],
        "languages": [
            {"code": "de", "name": "German", "tag": "<2de>", "tagId": DE},
            {"code": "en", "name": "English", "tag": "<2en>", "tagId": EN},
        ],
        "dimensions": {
            "vocabulary": vocabulary,
            "dModel": D_MODEL,
            "numHeads": HEADS,
            "headDim": HEAD_DIM,
            "encoderLayers": 1,
            "decoderLayers": LAYERS,
            "topK": TOP_K,
        },
        "specialIds": {"pad": PAD, "unk": UNK, "bos": BOS, "eos": EOS},
        "limits": {"sourceTokens": SOURCE_TOKENS, "targetTokens": TARGET_TOKENS},
        "precisions": {"fp32": {"encoder": "fp32/encoder.onnx", "decoder": "fp32/decoder.onnx"}},
    }
    write_manifest(root, manifest)
    return root


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write bundle.json; ``files`` lists what is in the folder, unless it is given."""
    if "files" not in manifest:
        manifest = manifest | {"files": [describe(root, path) for path in sorted(root.rglob("*")) if is_content(path)]}
    (root / "bundle.json").write_text(json.dumps(manifest, indent=1))


def read_manifest(root: Path) -> dict[str, Any]:
    """bundle.json as plain data."""
    manifest: dict[str, Any] = json.loads((root / "bundle.json").read_text())
    return manifest


def describe(root: Path, path: Path) -> dict[str, Any]:
    """The entry of a file in ``files``."""
    content = path.read_bytes()
    name = path.relative_to(root).as_posix()
    return {"path": name, "bytes": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}


def is_content(path: Path) -> bool:
    """Whether a path is a file that the manifest lists."""
    return path.is_file() and path.name != "bundle.json"
