"""A decoder alone of ours made into a CTranslate2 model through its model specification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from ctranslate2.specs import common_spec, transformer_spec
from torch import nn

from dragoman_model.checkpoint import atomic_folder
from dragoman_model.language_model import LanguageModel

_ACTIVATIONS = {"relu": common_spec.Activation.RELU, "gelu": common_spec.Activation.GELU}


def convert_decoder(model: LanguageModel, folder: Path, *, quantization: str | None = None) -> None:
    """Write a CTranslate2 generator into the new ``folder``; ids are written in decimal, as in ``ctranslate2_model``.

    ValueError for an architecture that the specification cannot express in this way.
    """
    config = model.config
    if config.norm != "pre" or config.activation not in _ACTIVATIONS:
        raise ValueError(f"norm = {config.norm}, activation = {config.activation}: pre, relu and gelu are converted")
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config.decoder_layers, config.num_heads, pre_norm=True, activation=_ACTIVATIONS[config.activation]
    )
    decoder = spec.decoder
    decoder.embeddings.weight = decoder.projection.weight = _array(model.embedding.weight)
    decoder.scale_embeddings = True
    decoder.position_encodings.encodings = _array(model.positions.table)
    assert isinstance(model.norm, nn.LayerNorm)
    _norm(decoder.layer_norm, model.norm)
    for target, ours in zip(decoder.layer, model.decoder_layers, strict=True):
        _norm(target.self_attention.layer_norm, ours.self_residual.norm)
        _linears(target.self_attention.linear, ours.self_attention.query_key_value, ours.self_attention.output)
        _norm(target.ffn.layer_norm, ours.feed_forward_residual.norm)
        _linears([target.ffn.linear_0, target.ffn.linear_1], ours.feed_forward.inner, ours.feed_forward.outer)
    spec.config.unk_token, spec.config.bos_token = str(config.unk_id), str(config.bos_id)
    spec.config.eos_token = str(config.eos_id)
    spec.register_vocabulary([str(token_id) for token_id in range(config.vocabulary)])
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.parent.mkdir(parents=True, exist_ok=True)
    atomic_folder(folder, lambda beside: spec.save(os.fspath(beside)))


def _norm(target: common_spec.LayerNormSpec, norm: nn.LayerNorm) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _linears(targets: Sequence[common_spec.LinearSpec], *linears: nn.Linear) -> None:
    for target, linear in zip(targets, linears, strict=True):
        target.weight, target.bias = _array(linear.weight), _array(linear.bias)


def _array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().numpy()
    return array
