"""Hugging Face ``generate`` on the same weights: M2M100 has our architecture, with our table of positions put in.

Pre-norm, final norms, scaled and tied embeddings, ReLU, sinusoidal positions: what differs is the order and the spacing
of the sinusoids, so its table is overwritten. That it is the same model is checked in float32 before anything is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import typer
from torch import nn
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration

from dragoman_model.attention import MultiHeadAttention
from dragoman_model.batching import pad
from dragoman_model.checkpoint import load_model
from dragoman_model.search import translate_ids
from dragoman_model.transformer import Transformer
from dragoman_server.machine import usable_cores
from tests.bench.charts import bars
from tests.bench.models import bench_model
from tests.bench.options import BEAMS, MODELS, OUTPUT, ROUNDS, Models, Output, Rounds
from tests.bench.ours import Ours, OurSettings
from tests.bench.random_base import LONGEST
from tests.bench.results import Result, Table
from tests.bench.rounds import Spread, interleave, ratios
from tests.bench.workload import Workload, workload

BATCHES = (1, 32)
_CHECKED = 16
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main(rounds: Rounds = ROUNDS, sentences: int = 64, model: Models = MODELS, output: Output = OUTPUT) -> None:
    """Measure and publish."""
    measured: dict[str, Any] = {}
    rows: list[list[str]] = []
    groups: list[str] = []
    charted: dict[str, list[Spread | None]] = {"Dragoman int8": [], **{f"generate, {dtype}": [] for dtype in _DTYPES}}
    for name in model:
        work = workload(name).part(sentences)
        theirs = _loaded(name, work.sources[:_CHECKED])
        for decoding, beam in BEAMS.items():
            for batch in BATCHES:
                found = _measure(name, theirs, work, beam=beam, batch=batch, rounds=rounds)
                measured[f"{name}, {decoding}, batch {batch}"] = {
                    "tokens_per_second": found,
                    "threads": torch.get_num_threads(),
                }
                ours = Spread.of(found["ours"])
                groups.append(f"{name}\n{decoding}\nbatch {batch}")
                charted["Dragoman int8"].append(ours)
                for dtype in _DTYPES:
                    spread, ratio = Spread.of(found[dtype]), ratios(found["ours"], found[dtype])
                    rows.append([name, decoding, str(batch), dtype, ours.text(0), spread.text(0), ratio.text(1)])
                    charted[f"generate, {dtype}"].append(spread)
    columns = [
        "model",
        "decoding",
        "batch",
        "their precision",
        "Dragoman int8, tokens/s",
        "generate, tokens/s",
        "ratio",
    ]
    Result(
        "hugging_face",
        {"rounds": rounds, "sentences": sentences, "ours": asdict(_settings())},
        measured,
        [Table("Hugging Face generate, the same weights (eager)", columns, rows)],
        [
            "Batch 1: one sentence after the other on both sides. Batch 32: theirs are sorted by length and padded.",
            "They have one thread or all, whichever is faster for float32.",
            "Greedy tokens in float32 were compared with PyTorch's before: all equal.",
        ],
    ).publish(output)
    bars(
        output / "hugging_face.png",
        groups,
        charted,
        title="Dragoman and Hugging Face generate, the same weights",
        label="target tokens a second",
        logarithmic=True,
    )


def hugging_face_model(model: Transformer) -> M2M100ForConditionalGeneration:
    """Our weights in M2M100; ValueError for an architecture that it is not."""
    config = model.config
    if config.norm != "pre" or config.activation != "relu":
        raise ValueError(f"norm = {config.norm}, activation = {config.activation}: M2M100 has pre and relu")
    made = M2M100ForConditionalGeneration(
        M2M100Config(
            vocab_size=config.vocabulary,
            max_position_embeddings=config.max_length,
            encoder_layers=config.encoder_layers,
            encoder_ffn_dim=config.d_ff,
            encoder_attention_heads=config.num_heads,
            decoder_layers=config.decoder_layers,
            decoder_ffn_dim=config.d_ff,
            decoder_attention_heads=config.num_heads,
            d_model=config.d_model,
            activation_function="relu",
            scale_embedding=True,
            pad_token_id=config.pad_id,
            bos_token_id=config.bos_id,
            eos_token_id=config.eos_id,
            decoder_start_token_id=config.bos_id,
        )
    ).eval()
    with torch.no_grad():
        _fill(made, model)
    return made


def _fill(made: M2M100ForConditionalGeneration, model: Transformer) -> None:
    inner = made.model
    inner.shared.weight.copy_(model.embedding.weight)
    made.tie_weights()
    first = model.config.pad_id + 1  # the first token's row in its table
    for part, positions in ((inner.encoder, model.encoder_positions), (inner.decoder, model.decoder_positions)):
        table = part.embed_positions.weights
        table[first : first + len(positions.table)] = positions.table[: len(table) - first]
    for part, norm in ((inner.encoder, model.encoder_norm), (inner.decoder, model.decoder_norm)):
        part.layer_norm.load_state_dict(norm.state_dict())
    for theirs, ours in zip(inner.encoder.layers, model.encoder_layers, strict=True):
        _self_attention(theirs.self_attn, ours.self_attention)
        theirs.self_attn_layer_norm.load_state_dict(ours.self_residual.norm.state_dict())
        _feed_forward(theirs, ours)
    for theirs, layer in zip(inner.decoder.layers, model.decoder_layers, strict=True):
        _self_attention(theirs.self_attn, layer.self_attention)
        theirs.self_attn_layer_norm.load_state_dict(layer.self_residual.norm.state_dict())
        cross = layer.cross_attention
        key, value = _parts(cross.key_value, 2)
        _copy(theirs.encoder_attn, q_proj=_parts(cross.query, 1)[0], k_proj=key, v_proj=value)
        theirs.encoder_attn.out_proj.load_state_dict(cross.output.state_dict())
        theirs.encoder_attn_layer_norm.load_state_dict(layer.cross_residual.norm.state_dict())
        _feed_forward(theirs, layer)


Part = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias."""


def _self_attention(theirs: Any, ours: MultiHeadAttention) -> None:
    query, key, value = _parts(ours.query_key_value, 3)
    _copy(theirs, q_proj=query, k_proj=key, v_proj=value)
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def _feed_forward(theirs: Any, ours: Any) -> None:
    theirs.fc1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.fc2.load_state_dict(ours.feed_forward.outer.state_dict())
    theirs.final_layer_norm.load_state_dict(ours.feed_forward_residual.norm.state_dict())


def _parts(linear: nn.Linear, count: int) -> list[Part]:
    return list(zip(linear.weight.chunk(count), linear.bias.chunk(count), strict=True))


def _copy(attention: Any, **parts: Part) -> None:
    for name, (weight, bias) in parts.items():
        target = getattr(attention, name)
        target.weight.copy_(weight)
        target.bias.copy_(bias)


def _loaded(name: str, sources: Sequence[Sequence[int]]) -> dict[str, M2M100ForConditionalGeneration]:
    """In both precisions, after float32's greedy tokens were compared with PyTorch's."""
    ours = load_model(bench_model(name).checkpoint, Transformer).model
    made = hugging_face_model(ours)
    expected = translate_ids(ours, sources, max_length=LONGEST)
    found = generate(made, sources, beam=1)
    assert found == expected, f"{name}: M2M100 does not give the tokens of the checkpoint"
    half = hugging_face_model(ours).to(torch.bfloat16)
    return {"float32": made, "bfloat16": half}


@torch.inference_mode()
def generate(model: M2M100ForConditionalGeneration, sources: Sequence[Sequence[int]], *, beam: int) -> list[list[int]]:
    """Target ids of one batch, without begin- and end-of-sentence and padding."""
    config = model.config
    ids = pad(sources, config.pad_token_id)
    mask = pad([[1] * len(source) for source in sources], 0)
    options = GenerationConfig(
        max_new_tokens=LONGEST,
        num_beams=beam,
        do_sample=False,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=options).tolist()
    return [_target(row[1:], config.eos_token_id) for row in rows]


def _target(row: list[int], eos: int) -> list[int]:
    return row[: row.index(eos)] if eos in row else row


def _measure(
    name: str,
    theirs: dict[str, M2M100ForConditionalGeneration],
    work: Workload,
    *,
    beam: int,
    batch: int,
    rounds: int,
) -> dict[str, list[float]]:
    sources = sorted(work.sources, key=len) if batch > 1 else work.sources[: max(8, len(work.sources) // 4)]

    def timed(dtype: str) -> float:
        began, tokens = time.perf_counter(), 0
        for begin in range(0, len(sources), batch):
            tokens += sum(map(len, generate(theirs[dtype], sources[begin : begin + batch], beam=beam)))
        return tokens / (time.perf_counter() - began)

    torch.set_num_threads(_best_threads(theirs["float32"], sources[:batch], beam))
    with Ours(bench_model(name).repository, name, _settings()) as ours:

        def engine() -> float:
            return ours.decode(sources, beam=beam, in_flight=batch).tokens_per_second

        sides = {"ours": engine, "float32": lambda: timed("float32"), "bfloat16": lambda: timed("bfloat16")}
        return interleave(sides, rounds)


def _best_threads(model: M2M100ForConditionalGeneration, sources: Sequence[Sequence[int]], beam: int) -> int:
    """One thread or one for each core, whichever is faster: small models do not always gain."""
    tried = {}
    for threads in dict.fromkeys([1, usable_cores()]):
        torch.set_num_threads(threads)
        generate(model, sources, beam=beam)
        began = time.perf_counter()
        generate(model, sources, beam=beam)
        tried[threads] = time.perf_counter() - began
    return min(tried, key=lambda threads: tried[threads])


def _settings() -> OurSettings:
    return OurSettings(lanes=usable_cores())


if __name__ == "__main__":
    typer.run(main)
