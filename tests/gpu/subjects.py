"""What is measured on a GPU: models of known sizes with random weights, their graphs, and runtimes over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman_export.graphs import GraphPaths, export_half_graphs
from dragoman_export.language_graph import export_half_language_graph
from dragoman_model.config import Config, DecoderConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.device import Device
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime

LONGEST = 128
_TOP_K = 16


@dataclass(frozen=True)
class Subject:
    """A model to be measured."""

    name: str
    config: Config | DecoderConfig

    def model(self) -> Transformer | LanguageModel:
        """With random weights, the same each time."""
        torch.manual_seed(1)
        if isinstance(self.config, Config):
            return Transformer(self.config).eval()
        return LanguageModel(self.config).eval()

    def graphs(self, folder: Path) -> GraphPaths:
        """Its float16 graphs, exported unless they are there; of a decoder alone both paths are that."""
        own = folder / self.name
        encoder, decoder = own / "encoder.onnx", own / "decoder.onnx"
        if not decoder.exists():
            model = self.model()
            if isinstance(model, Transformer):
                return export_half_graphs(model, own)
            export_half_language_graph(model, own)
        return GraphPaths(encoder if encoder.exists() else decoder, decoder)

    def runtime(self, folder: Path, device: Device, rows: int) -> OnnxRuntime | OnnxPromptRuntime:
        """A lane's."""
        paths, limits = self.graphs(folder), Limits(target_tokens=LONGEST)
        if isinstance(self.config, DecoderConfig):
            return OnnxPromptRuntime(
                paths.decoder, dimensions=self.dimensions, limits=limits, max_rows=rows, device=device
            )
        limits.source_tokens = LONGEST
        return OnnxRuntime(*paths, dimensions=self.dimensions, limits=limits, max_rows=rows, device=device)

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
        """What a step reads at least: the decoder's weights, and of each row the positions that it holds."""
        cached = target if isinstance(self.config, DecoderConfig) else target + source
        position = 2 * self.config.decoder_layers * self.config.d_model * 2
        # A row of the embedding is read, not all of it; the output layer has a table of its own.
        embedding = self.config.vocabulary * self.config.d_model * 2
        return graph.stat().st_size - embedding + rows * cached * position


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
