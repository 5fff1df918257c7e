"""``dragoman evaluate`` of an encoder, bundle or checkpoint: how well it labels texts or tags words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from dragoman_export.encoder_measuring import served_encoder
from dragoman_export.encoder_passes import run_all
from dragoman_export.encoder_probes import read_encoder_record
from dragoman_export.encoder_texts import TextReader
from dragoman_model.checkpoint import CheckpointError, load_model
from dragoman_model.encoder_evaluation import EncoderEvaluation, evaluate_encoder
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.tokenizer import protect
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import MANIFEST, load_bundle
from dragoman_server.progress import Stages


def is_encoder_bundle(path: Path) -> bool:
    """Whether the folder holds the bundle of an encoder; what is wrong with a bundle, loading tells."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("family") == Bundle.Family.Name(Bundle.FAMILY_ENCODER)


def evaluate_label_files(model: Path, data: Sequence[Path], precision: str | None, stages: Stages) -> EncoderEvaluation:
    """Score the test split of files that are like the recipe's, or all of a file that holds one split.

    A bundle's texts are cut to the longest that it takes. Raises CheckpointError, BundleError, ProbesError or DataError
    if the model or a file cannot be used.
    """
    if not is_encoder_bundle(model):
        if precision is not None:
            raise CheckpointError(f"precision = {precision}: only a bundle has precisions, and {model} is none")
        return evaluate_encoder(load_model(model, TextEncoder), data, "test")
    bundle = load_bundle(model, precision or "int8")
    reader = TextReader(read_encoder_record(model).source, protect(bundle.tokenizer), bundle.manifest)
    texts = reader.read(data, "test").texts
    with stages.stage("texts", total=len(texts.inputs)) as advance:
        outputs = run_all(served_encoder(bundle.encoder, bundle.manifest).run, texts.inputs, advance=advance)
    return EncoderEvaluation(texts.scores(outputs), len(texts.inputs), texts.targets)


def label_table(evaluation: EncoderEvaluation) -> RenderableType:
    """One line, in percent."""
    table = Table(*evaluation.scores, "texts", "scored", box=None)
    table.add_row(
        *(f"{100 * share:.2f}%" for share in evaluation.scores.values()),
        f"{evaluation.texts:,}",
        f"{evaluation.targets:,}",
    )
    return table


def label_json(evaluation: EncoderEvaluation) -> str:
    """The same as one JSON object, shares from 0 to 1."""
    scores = {name.replace(" ", "_").replace("-", "_"): share for name, share in evaluation.scores.items()}
    return json.dumps({**scores, "texts": evaluation.texts, "scored": evaluation.targets})
