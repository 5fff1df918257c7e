"""Attention weights of many layers and heads brought down to fewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dragoman_server.explaining.graph import Array, Attention


def rollout(weights: Array) -> Array:
    """How much of each input reaches each position through all layers: (layers, heads, time, time) -> (time, time).

    Abnar and Zuidema 2020 (arXiv:2005.00928), equation 1 and section 3: the mean over the heads, half of it replaced
    by the identity that stands for the residual connection, multiplied from the first layer to the last.
    """
    time = weights.shape[-1]
    reached = np.eye(time, dtype=np.float32)
    for layer in weights.mean(axis=1):
        mixed = 0.5 * layer + 0.5 * np.eye(time, dtype=np.float32)
        reached = (mixed / mixed.sum(axis=-1, keepdims=True)) @ reached
    return reached


def rolled_out(attention: Attention) -> Attention:
    """Self-attentions as their rollout, (1, 1, time, time); each layer's cross-attention, the mean over its heads, read
    through the encoder's rollout: (layers, 1, target, source).
    """
    encoder = None if attention.encoder_self is None else rollout(attention.encoder_self)
    cross = None
    if attention.cross is not None and encoder is not None:
        cross = attention.cross.mean(axis=1, keepdims=True) @ encoder
    return Attention(
        encoder_self=None if encoder is None else encoder[None, None],
        decoder_self=None if attention.decoder_self is None else rollout(attention.decoder_self)[None, None],
        cross=cross,
    )


def mean_over(attention: Attention, axes: tuple[int, ...]) -> Attention:
    """The mean over layers (axis 0), heads (axis 1) or both, which then have size 1."""
    return replace(
        attention,
        **{
            kind: weights.mean(axis=axes, keepdims=True)
            for kind, weights in vars(attention).items()
            if weights is not None
        },
    )
