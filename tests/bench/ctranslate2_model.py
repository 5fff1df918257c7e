"""A checkpoint of ours made into a CTranslate2 model through its model specification, and the proof that it is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt
import torch
from ctranslate2.specs import common_spec, transformer_spec
from torch import nn

from dragoman_model.checkpoint import atomic_folder
from dragoman_model.search import start_cache, step, translate_ids
from dragoman_model.transformer import Transformer

_SCORE_TOLERANCE = 1e-3


class ConversionError(Exception):
    """The converted model does not do what the checkpoint does."""


def tokens(ids: Sequence[int]) -> list[str]:
    """How ids are written in the converted vocabulary: in decimal, special ones too."""
    return [str(token_id) for token_id in ids]


def convert(model: Transformer, folder: Path, *, quantization: str | None = None) -> None:
    """Write a CTranslate2 model into the new ``folder``; ``quantization`` such as "int8", None: float32.

    ValueError for an architecture that the specification cannot express in this way.
    """
    config = model.config
    if config.norm != "pre" or config.activation != "relu":
        raise ValueError(f"norm = {config.norm}, activation = {config.activation}: pre and relu are converted")
    encoder = transformer_spec.TransformerEncoderSpec(
        config.encoder_layers, config.num_heads, pre_norm=True, activation=common_spec.Activation.RELU
    )
    decoder = transformer_spec.TransformerDecoderSpec(
        config.decoder_layers, config.num_heads, pre_norm=True, activation=common_spec.Activation.RELU
    )
    spec = transformer_spec.TransformerSpec(encoder, decoder)
    _fill(spec, model)
    vocabulary = tokens(range(config.vocabulary))
    spec.config.unk_token, spec.config.bos_token = str(config.unk_id), str(config.bos_id)
    spec.config.eos_token, spec.config.decoder_start_token = str(config.eos_id), str(config.bos_id)
    spec.config.add_source_bos = spec.config.add_source_eos = False  # our sources are complete
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.parent.mkdir(parents=True, exist_ok=True)
    atomic_folder(folder, lambda beside: spec.save(os.fspath(beside)))


def _fill(spec: transformer_spec.TransformerSpec, model: Transformer) -> None:
    embedding = _array(model.embedding.weight)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.embeddings[0].weight = decoder.embeddings.weight = decoder.projection.weight = embedding
    encoder.scale_embeddings = decoder.scale_embeddings = True
    encoder.position_encodings.encodings = _array(model.encoder_positions.table)
    decoder.position_encodings.encodings = _array(model.decoder_positions.table)
    for part, norm in ((encoder, model.encoder_norm), (decoder, model.decoder_norm)):
        assert isinstance(norm, nn.LayerNorm)
        _norm(part.layer_norm, norm)
    for target, ours in zip(encoder.layer, model.encoder_layers, strict=True):
        _norm(target.self_attention.layer_norm, ours.self_residual.norm)
        _linears(target.self_attention.linear, ours.self_attention.query_key_value, ours.self_attention.output)
        _norm(target.ffn.layer_norm, ours.feed_forward_residual.norm)
        _linears([target.ffn.linear_0, target.ffn.linear_1], ours.feed_forward.inner, ours.feed_forward.outer)
    for target, layer in zip(decoder.layer, model.decoder_layers, strict=True):
        _norm(target.self_attention.layer_norm, layer.self_residual.norm)
        _linears(target.self_attention.linear, layer.self_attention.query_key_value, layer.self_attention.output)
        cross = layer.cross_attention
        _norm(target.attention.layer_norm, layer.cross_residual.norm)
        _linears(target.attention.linear, cross.query, cross.key_value, cross.output)
        _norm(target.ffn.layer_norm, layer.feed_forward_residual.norm)
        _linears([target.ffn.linear_0, target.ffn.linear_1], layer.feed_forward.inner, layer.feed_forward.outer)


def _norm(target: common_spec.LayerNormSpec, norm: nn.LayerNorm) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _linears(targets: Sequence[common_spec.LinearSpec], *linears: nn.Linear) -> None:
    for target, linear in zip(targets, linears, strict=True):
        target.weight, target.bias = _array(linear.weight), _array(linear.bias)


def _array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().numpy()
    return array


def check(folder: Path, model: Transformer, sources: Sequence[Sequence[int]], *, max_length: int) -> float:
    """Compare with PyTorch in float32: greedy tokens equal, beam tokens equal, scores near.

    Returns the largest difference of a greedy sum of log-probabilities; ConversionError where something differs.
    """
    translator = ctranslate2.Translator(os.fspath(folder), device="cpu", compute_type="float32")
    written = [tokens(source) for source in sources]
    for beam in (1, 4):
        results = translator.translate_batch(written, beam_size=beam, max_decoding_length=max_length)
        found = [[int(token) for token in result.hypotheses[0]] for result in results]
        expected = translate_ids(model, sources, beam_size=beam, max_length=max_length)
        differing = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
        if differing:
            raise ConversionError(
                f"beam {beam}: {len(differing)} of {len(sources)} outputs differ, first {differing[0]}"
            )
    results = translator.translate_batch(
        written, beam_size=1, max_decoding_length=max_length, return_scores=True, length_penalty=0.0
    )
    largest = 0.0
    for source, result in zip(sources, results, strict=True):
        ids = [int(token) for token in result.hypotheses[0]]
        largest = max(largest, abs(result.scores[0] - _log_probability(model, source, ids)))
    if largest > _SCORE_TOLERANCE:
        raise ConversionError(f"a score differs by {largest:.2g}: at most {_SCORE_TOLERANCE}")
    return largest


@torch.no_grad()
def _log_probability(model: Transformer, source: Sequence[int], target: Sequence[int]) -> float:
    """Natural log-probability of the target and end-of-sentence."""
    cache = start_cache(model, torch.tensor([source]), torch.tensor([len(source)]))
    total, last = 0.0, model.config.bos_id
    for token_id in (*target, model.config.eos_id):
        total += float(step(model, torch.tensor([last]), cache).log_softmax(dim=-1)[0, token_id])
        last = token_id
    return total
