"""The two models that are measured, each for both sides; what is missing is built under runs/bench, once."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from dragoman_export import reference
from dragoman_export.bundle_writer import describe, write_bundle
from dragoman_export.graphs import export_graphs
from dragoman_export.probes import ParityRecord
from dragoman_export.quantization_plan import observe, quantized_variants
from dragoman_model.checkpoint import TrainedModel, load_model, save_model
from dragoman_model.tokenizer import token_id
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Limits
from dragoman_server.bundle import MANIFEST
from tests.bench import random_base
from tests.bench.ctranslate2_model import check, convert
from tests.bench.random_base import FIRST_WORD, LONGEST, VOCABULARY, base_source
from tests.bench.results import ROOT
from tests.integration.sentences import sentences

RUNS = ROOT / "runs" / "bench"
DEFAULT, BASE = "deu-eng", "base"
NAMES = (DEFAULT, BASE)
_CALIBRATION = 64
_CHECKED = 32


@dataclass(frozen=True)
class BenchModel:
    """Where both sides find the same weights."""

    name: str
    repository: Path
    """Of our bundle, int8."""
    checkpoint: Path
    ctranslate2: Path
    """Quantised to int8 by CTranslate2 itself."""
    ctranslate2_float32: Path

    @property
    def bundle(self) -> Path:
        """Its folder."""
        return self.repository / self.name / "1"


def bench_model(name: str) -> BenchModel:
    """The model of that name, ready on disk for both sides, the conversion checked; builds what is missing."""
    folder = RUNS / "ctranslate2"
    own = name == DEFAULT
    model = BenchModel(
        name,
        repository=ROOT / "models" if own else RUNS / "models",
        checkpoint=(ROOT / "model" if own else RUNS) / "checkpoints" / name,
        ctranslate2=folder / name / "int8",
        ctranslate2_float32=folder / name / "float32",
    )
    if not own and not model.checkpoint.exists():
        _make_checkpoint(model)
    if not own and not (model.bundle / MANIFEST).exists():
        _make_bundle(model)
    if not model.ctranslate2.exists():
        trained = load_model(model.checkpoint, Transformer)
        if not model.ctranslate2_float32.exists():
            convert(trained.model, model.ctranslate2_float32)
        difference = check(
            model.ctranslate2_float32, trained.model, own_sources(name, trained, _CHECKED), max_length=LONGEST
        )
        print(f"{name}: CTranslate2 in float32 gives PyTorch's tokens; scores within {difference:.1g}")
        convert(trained.model, model.ctranslate2, quantization="int8")
    return model


def own_sources(name: str, trained: TrainedModel[Transformer], count: int) -> list[list[int]]:
    """Sources of sentences of our own, as ids; for the random model, words at random of mixed lengths."""
    chance = random.Random(7)
    if name == BASE:
        found = []
        for _ in range(count):
            words = [chance.randrange(FIRST_WORD, VOCABULARY) for _ in range(chance.randint(2, 50))]
            found.append(base_source(words, chance.randint(1, len(words) + 1)))
        return found
    tag, eos = token_id(trained.tokenizer, "<2de>"), trained.model.config.eos_id
    return [[tag, *trained.tokenizer.encode(text, add_special_tokens=False).ids, eos] for text in sentences(count)]


def _make_checkpoint(model: BenchModel) -> None:
    made = random_base.random_base()
    model.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = dict(made.state_dict())
    save_model(model.checkpoint, state, made.config, random_base.base_tokenizer(), random_base.base_provenance())


def _make_bundle(model: BenchModel) -> None:
    """As ``dragoman export`` does it, without a certificate: there is no quality to certify."""
    trained = load_model(model.checkpoint, Transformer)
    manifest = describe(trained, name=model.name, limits=Limits(source_tokens=LONGEST, target_tokens=LONGEST))
    work = RUNS / "export"
    graphs = export_graphs(trained.model, work / "fp32")
    sources = own_sources(model.name, trained, _CALIBRATION)
    targets = reference.translate(trained.model, sources, max_length=LONGEST)
    observed = observe(graphs, manifest, sources, [reference.fed_part(t, LONGEST) for t in targets], threads=1)
    quantized = next(quantized_variants(observed, work / "int8"))
    record = ParityRecord(
        columns=("en", "de"),
        directions=[("en", "de")],
        max_length=LONGEST,
        quantization=quantized.description,
        probes=[],
        measured={},
        sentences=[],
    )
    model.bundle.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(model.bundle, manifest, trained, {"int8": quantized.paths}, record, overwrite=True)
