"""Writes a bundle's folder: beside its place first, checked by the server's own loader, then renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import json_format

from dragoman_export.graphs import DECODER, ENCODER, TOP_K, GraphPaths
from dragoman_export.probes import PARITY_FILE, ParityRecord
from dragoman_export.sentences import recipe_facts
from dragoman_model.checkpoint import CheckpointError, TrainedModel, atomic_folder
from dragoman_model.tokenizer import language_tag
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import (
    Bundle,
    Dimensions,
    File,
    Graphs,
    Language,
    Limits,
    Provenance,
    SpecialIds,
)
from dragoman_server.bundle import FORMAT_VERSION, GENERATION, MANIFEST, TOKENIZER
from dragoman_server.inspection import checked_manifest


class BundleExistsError(Exception):
    """There is something at the bundle's place, and overwriting was not asked for."""


def describe(trained: TrainedModel[Transformer], *, name: str, limits: Limits) -> Bundle:
    """The manifest without precisions, files and certificate."""
    config, provenance = trained.model.config, trained.provenance
    facts = recipe_facts(provenance)
    recipe = f"{facts.name} (SHA-256 {hashlib.sha256(provenance.recipe.encode()).hexdigest()[:16]})"
    return Bundle(
        format_version=FORMAT_VERSION,
        name=name,
        description=provenance.description,
        family=Bundle.FAMILY_ENCODER_DECODER,
        tasks=[Bundle.TASK_TRANSLATE],
        languages=[
            Language(code=language.code, name=language.name, tag=tag, tag_id=_token_id(trained, tag))
            for language in provenance.languages
            for tag in (language_tag(language.code),)
        ],
        dimensions=Dimensions(
            vocabulary=config.vocabulary,
            d_model=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            d_ff=config.d_ff,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            parameters=trained.model.parameter_count,
            top_k=min(TOP_K, config.vocabulary),
        ),
        special_ids=SpecialIds(pad=config.pad_id, unk=config.unk_id, bos=config.bos_id, eos=config.eos_id),
        limits=limits,
        provenance=Provenance(
            licence=provenance.licence,
            attribution=provenance.attribution,
            training_data=provenance.training_data,
            recipe=recipe if facts.name else "",
            updates=provenance.updates,
            checkpoint_sha256=trained.sha256,
        ),
    )


def _token_id(trained: TrainedModel[Transformer], tag: str) -> int:
    found = trained.tokenizer.token_to_id(tag)
    if found is None:
        raise CheckpointError(f"the tokenizer has no token {tag}, which asks for one of the model's languages")
    return found


def graph_path(precision: str, file: str) -> str:
    """Where a graph stands in a bundle."""
    return f"{precision}/{file}"


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """BundleExistsError where something is in the way; what is no bundle is never overwritten."""
    if not output.exists():
        return
    if not overwrite:
        raise BundleExistsError(f"{output} exists: --force replaces a bundle")
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and not (output / MANIFEST).is_file():
        raise BundleExistsError(f"{output} exists and is no bundle: it is left alone")


def write_bundle(
    output: Path,
    manifest: Bundle,
    trained: TrainedModel[Transformer],
    graphs: Mapping[str, GraphPaths],
    record: ParityRecord,
    *,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle with these precisions' graphs and return its manifest.

    Nothing is at ``output`` before all of it is: BundleExistsError or the server's BundleError leave it as it was.
    """
    refuse_existing(output, overwrite=overwrite)
    complete = Bundle()
    complete.CopyFrom(manifest)

    def write(folder: Path) -> None:
        trained.tokenizer.save(str(folder / TOKENIZER))
        generation = {"maxLength": manifest.limits.target_tokens}
        (folder / GENERATION).write_text(json.dumps(generation) + "\n", encoding="utf-8")
        (folder / PARITY_FILE).write_text(record.model_dump_json() + "\n", encoding="utf-8")
        for precision, paths in graphs.items():
            (folder / precision).mkdir()
            encoder, decoder = graph_path(precision, ENCODER), graph_path(precision, DECODER)
            shutil.copyfile(paths.encoder, folder / encoder)
            shutil.copyfile(paths.decoder, folder / decoder)
            complete.precisions[precision].CopyFrom(Graphs(encoder=encoder, decoder=decoder))
        complete.files.extend(
            File(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        )
        text = json_format.MessageToJson(complete, indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        checked_manifest(folder)

    atomic_folder(output, write)
    return complete


def sha256(path: Path) -> str:
    """Of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
