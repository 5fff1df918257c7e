"""Our weights in a model of Hugging Face: M2M100 has our architecture, with our table of positions put in.

Pre-norm, final norms, scaled and tied embeddings, ReLU, sinusoidal positions: what differs is the order and the spacing
of the sinusoids, so its table is overwritten.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import M2M100Config, M2M100ForConditionalGeneration

from dragoman_model.attention import MultiHeadAttention
from dragoman_model.transformer import Transformer

Part = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias."""


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
