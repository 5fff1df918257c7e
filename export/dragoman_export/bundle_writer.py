"""Writes a bundle's folder: beside its place first, checked by the server's own loader, then renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import json_format
from pydantic import BaseModel

from dragoman_model.checkpoint import TrainedModel, atomic_folder
from dragoman_model.families import ServedModel
from dragoman_protos.v1.bundle_pb2 import Bundle, File
from dragoman_server.bundle import GENERATION, MANIFEST, TOKENIZER
from dragoman_server.inspection import checked_manifest

PARITY_FILE = "parity.json"
"""What PyTorch said of probes, so that a bundle can be compared with PyTorch without PyTorch."""


class BundleExistsError(Exception):
    """There is something at the bundle's place, and overwriting was not asked for."""


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
    trained: TrainedModel[ServedModel],
    graphs: Mapping[str, Mapping[str, Path]],
    record: BaseModel,
    *,
    files: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle with these precisions' graphs (by role) and return its manifest.

    ``record`` becomes parity.json; ``files`` are put where their names say, seen from the bundle's folder.
    Nothing is at ``output`` before all of it is: BundleExistsError or the server's BundleError leave it as it was.
    """
    refuse_existing(output, overwrite=overwrite)
    complete = Bundle()
    complete.CopyFrom(manifest)

    def write(folder: Path) -> None:
        trained.tokenizer.save(str(folder / TOKENIZER))
        if manifest.limits.target_tokens:  # an encoder decodes nothing
            generation = {"maxLength": manifest.limits.target_tokens}
            (folder / GENERATION).write_text(json.dumps(generation) + "\n", encoding="utf-8")
        (folder / PARITY_FILE).write_text(record.model_dump_json() + "\n", encoding="utf-8")
        for precision, paths in graphs.items():
            (folder / precision).mkdir()
            for role, path in paths.items():
                shutil.copyfile(path, folder / graph_path(precision, path.name))
                setattr(complete.precisions[precision], role, graph_path(precision, path.name))
        for name, path in (files or {}).items():
            shutil.copyfile(path, folder / name)
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
