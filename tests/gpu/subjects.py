"""What is measured on a GPU: models of known sizes with random weights, their graphs, and runtimes over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dragoman_export.graphs import GraphPaths, export_half_graphs
from dragoman_export.language_graph import export_half_language_graph
from dragoman_model.checkpoint import atomic_folder
from dragoman_model.config import Config, DecoderConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.layers import FeedForward
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.device import Device
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import Sessions

LONGEST = 128
_TOP_K = 16
_FED, _SOURCE, _SHARPNESS, _PLACE = 0.1, 4.0, 4.0, 1.5
"""What a token that is fed weighs, what the source does, how sharply it is attended to, and what a token's place
weighs, by what they do at the beginning of a training."""


@dataclass(frozen=True)
class Subject:
    """A model to be measured."""

    name: str
    config: Config | DecoderConfig

    @property
    def has_source(self) -> bool:
        """Whether it has an encoder; else it is a decoder alone."""
        return isinstance(self.config, Config)

    def model(self) -> Transformer | LanguageModel:
        """With random weights, the same each time; made on the GPU where torch has one, which takes no time."""
        torch.manual_seed(1)
        with torch.device(torch_device()):
            if not isinstance(self.config, Config):
                return LanguageModel(self.config).eval()
            made = Transformer(self.config).eval()
        _enliven(made)
        return made

    def export(self, folder: Path) -> GraphPaths:
        """Write its float16 graphs: all of them, or nothing."""
        model = self.model().cpu()

        def write(beside: Path) -> None:
            if isinstance(model, Transformer):
                export_half_graphs(model, beside)
            else:
                export_half_language_graph(model, beside)

        atomic_folder(folder / self.name, write)
        return self.graphs(folder)

    def graphs(self, folder: Path) -> GraphPaths:
        """Its graphs, which were exported before; of a decoder alone both paths are that."""
        decoder = folder / self.name / "decoder.onnx"
        return GraphPaths(folder / self.name / "encoder.onnx" if self.has_source else decoder, decoder)

    def runtime(
        self, folder: Path, device: Device, rows: int, sessions: Sessions | None = None
    ) -> OnnxRuntime | OnnxPromptRuntime:
        """A lane's."""
        paths, limits = self.graphs(folder), Limits(target_tokens=LONGEST)
        if not self.has_source:
            return OnnxPromptRuntime(
                paths.decoder,
                dimensions=self.dimensions,
                limits=limits,
                max_rows=rows,
                device=device,
                sessions=sessions,
            )
        limits.source_tokens = LONGEST
        return OnnxRuntime(
            *paths, dimensions=self.dimensions, limits=limits, max_rows=rows, device=device, sessions=sessions
        )

    @property
    def dimensions(self) -> Dimensions:
        """As a manifest has them."""
        config = self.config
        return Dimensions(
            vocabulary=config.vocabulary,
            d_model=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            decoder_layers=config.decoder_layers,
            top_k=min(_TOP_K, config.vocabulary),
        )

    def bytes_of_a_step(self, graph: Path, rows: int, target: int, source: int) -> int:
        """What a step reads at least: the decoder's weights, and of each row the positions that it holds.

        ``target`` is what was decoded so far, ``source`` what was there before, a prompt or a source.
        """
        position = 2 * self.config.decoder_layers * self.config.d_model * 2
        # A row of the embedding is read, not all of it; the output layer has a table of its own.
        embedding = self.config.vocabulary * self.config.d_model * 2
        return graph.stat().st_size - embedding + rows * (target + source) * position


def torch_device() -> str:
    """Where torch computes what onnxruntime is compared with."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def _enliven(model: Transformer) -> None:
    """Make a model with random weights answer each source differently: else all are the token that was fed last."""
    model.embedding.weight *= _FED
    assert isinstance(model.decoder_norm, nn.LayerNorm)
    model.decoder_norm.weight.div_(_FED)  # logits are as large as before
    model.encoder_positions.table *= _FED
    model.decoder_positions.table.normal_(std=_PLACE)
    for feed_forward in (module for module in model.modules() if isinstance(module, FeedForward)):
        inner, outer = feed_forward.inner, feed_forward.outer
        # ReLU's mean, which is the same for all tokens, taken off: that of normal numbers of these deviations.
        outer.bias.sub_(outer.weight @ inner.weight.norm(dim=1) / math.sqrt(2 * math.pi))
    for layer in model.decoder_layers:
        layer.cross_attention.query.weight *= _SHARPNESS
        layer.cross_attention.output.weight *= _SOURCE


def _transformer(d_model: int, num_heads: int) -> Config:
    """Sizes of Vaswani et al. 2017, table 3, pre-norm."""
    return Config(vocabulary=32_000, d_model=d_model, num_heads=num_heads, d_ff=4 * d_model, max_length=LONGEST)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "tiny",
            Config(
                vocabulary=300,
                d_model=32,
                num_heads=4,
                d_ff=64,
                encoder_layers=1,
                decoder_layers=2,
                max_length=LONGEST,
            ),
        ),
        Subject(
            "tiny-decoder",
            DecoderConfig(vocabulary=300, d_model=32, num_heads=4, d_ff=64, decoder_layers=2, max_length=LONGEST),
        ),
        Subject("base", _transformer(512, 8)),
        Subject("big", _transformer(1024, 16)),
        # 0.97 billion parameters; its file stays below the 2 GiB that one ONNX file may have.
        Subject(
            "decoder-1b",
            DecoderConfig(
                vocabulary=32_000, d_model=2048, num_heads=16, d_ff=8192, decoder_layers=18, max_length=LONGEST
            ),
        ),
    )
}
