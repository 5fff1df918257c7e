"""The graph of an encoder-only bundle: a PyTorch module over a trained ``TextEncoder``, and its export in float32."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_export.encoder_modules import EncoderLayerGraph
from dragoman_export.graph_modules import EMBEDDING, Projection, narrowed, scaled_embedding
from dragoman_export.graphs import ENCODER
from dragoman_export.onnx_export import export_module, quiet
from dragoman_model.layers import EncoderLayer
from dragoman_model.text_encoder import TextEncoder
from dragoman_server.pass_runtime import EncoderInput, packed_feeds


class TextEncoderGraph(nn.Module):
    """Packed ids -> states, and what every head that the model has says of them."""

    embedding: Tensor
    position_table: Tensor
    segment_table: Tensor

    def __init__(self, model: TextEncoder) -> None:
        super().__init__()
        self.register_buffer(EMBEDDING, scaled_embedding(model.embedding))
        self.register_buffer("position_table", model.positions.table.detach().clone())
        self.has_segments = model.segment_embedding is not None
        if model.segment_embedding is not None:
            self.register_buffer("segment_table", model.segment_embedding.weight.detach().clone())
        self.layers = nn.ModuleList(EncoderLayerGraph(narrowed(layer, EncoderLayer)) for layer in model.layers)
        self.norm = model.norm
        self.classifier = None if model.classifier is None else _ClassifierGraph(model)
        self.tagger = None if model.tagger is None else Projection(model.tagger)
        self.mask_head = None if model.mask_head is None else _MaskHeadGraph(model)

    def forward(  # noqa: PLR0917  (the graph's inputs)
        self,
        input_ids: Tensor,
        positions: Tensor,
        padded_index: Tensor,
        attention_mask: Tensor,
        packed_index: Tensor,
        first_index: Tensor,
        segments: Tensor | None = None,
        mask_index: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Inputs as ``dragoman_server.packing`` lays them out; ``first_index`` is each text's first token.

        Returns states (tokens, d_model) and then, of the heads that there are, label logits (batch, labels), tag
        logits (tokens, tags) and the logits of the tokens at ``mask_index`` (masks, vocabulary).
        """
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.position_table)  # (tokens, d_model)
        if self.has_segments:
            assert segments is not None
            x = x + F.embedding(segments, self.segment_table)
        for layer in self.layers:
            x = layer(x, padded_index, attention_mask, packed_index)
        states = self.norm(x)
        outputs: list[Tensor] = [states]
        if self.classifier is not None:
            outputs.append(self.classifier(F.embedding(first_index, states)))
        if self.tagger is not None:
            outputs.append(self.tagger(states))
        if self.mask_head is not None:
            assert mask_index is not None
            outputs.append(self.mask_head(F.embedding(mask_index, states)))
        return tuple(outputs)


class _ClassifierGraph(nn.Module):
    """Pooler and classifier (Devlin et al. 2019): of the states of the first tokens."""

    def __init__(self, model: TextEncoder) -> None:
        super().__init__()
        assert model.pooler is not None
        assert model.classifier is not None
        self.pooler, self.labels = Projection(model.pooler), Projection(model.classifier)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, d_model) -> (batch, labels)."""
        logits: Tensor = self.labels(torch.tanh(self.pooler(states)))
        return logits


class _MaskHeadGraph(nn.Module):
    """A dense layer, GELU and a norm, then the embedding as output (Devlin et al. 2019)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, model: TextEncoder) -> None:
        super().__init__()
        assert model.mask_head is not None
        self.dense, self.norm = Projection(model.mask_head.dense), model.mask_head.norm
        self.register_buffer("weight", model.embedding.weight.detach().T.contiguous())
        self.register_buffer("bias", model.mask_head.bias.detach().clone())

    def forward(self, states: Tensor) -> Tensor:
        """(masks, d_model) -> (masks, vocabulary)."""
        logits: Tensor = self.norm(F.gelu(self.dense(states))) @ self.weight + self.bias
        return logits


def export_text_encoder(model: TextEncoder, folder: Path) -> Path:
    """Write encoder.onnx in float32 into ``folder``, which is made if it is missing. Nothing is printed to stdout."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ENCODER
    config = model.config
    axes = {
        "input_ids": ("tokens",),
        "positions": ("tokens",),
        "padded_index": ("batch", "source"),
        "attention_mask": ("batch", "source"),
        "packed_index": ("tokens",),
        "first_index": ("batch",),
        **({"segments": ("tokens",)} if config.segments else {}),
        **({"mask_index": ("masks",)} if config.mask_head else {}),
    }
    heads = {"label_logits": config.labels, "tag_logits": config.tags, "mask_logits": config.mask_head}
    # No two axes of one size: what is alike by chance would be taken to be alike.
    examples = [EncoderInput([1] * 4, mask_positions=(1, 2)), EncoderInput([1] * 3, mask_positions=(0, 1, 2))]
    feeds = packed_feeds(examples, axes)
    with quiet(), torch.no_grad():
        export_module(
            TextEncoderGraph(model).eval(),
            path,
            inputs={name: torch.from_numpy(feeds[name]) for name in axes},
            dynamic_shapes={name: dict(enumerate(names)) for name, names in axes.items()},
            input_names=list(axes),
            output_names=["states", *(name for name, there in heads.items() if there)],
        )
    return path
