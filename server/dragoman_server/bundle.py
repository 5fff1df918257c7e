"""Loads a bundle from its folder and refuses one that is not exactly what it says it is."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from tokenizers import Tokenizer

from dragoman_protos.v1.bundle_pb2 import Bundle, File
from dragoman_protos.v1.inference_pb2 import DecodingOptions
from dragoman_server.bundle_manifest import RULES, manifest_faults
from dragoman_server.explaining.signature import explain_signature
from dragoman_server.graphs import check_graph, external_locations

MANIFEST = "bundle.json"
TOKENIZER = "tokenizer.json"
GENERATION = "generation.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_JSON_BYTES = 4 << 20

M = TypeVar("M", bound=Message)


class BundleError(Exception):
    """The bundle is refused; ``faults`` lists everything that is wrong with it."""

    def __init__(self, path: Path, faults: list[str]) -> None:
        self.path = path
        self.faults = faults
        super().__init__(f"{path}: " + "; ".join(faults))


@dataclass(frozen=True)
class LoadedBundle:
    """A checked bundle, ready to be run in one precision."""

    path: Path
    precision: str
    manifest: Bundle
    tokenizer: Tokenizer
    default_options: DecodingOptions
    graphs: Mapping[str, Path]
    """Those of the precision, by role; which there are, the family says."""

    @property
    def encoder(self) -> Path:
        """Of a family that has one."""
        return self.graphs["encoder"]

    @property
    def decoder(self) -> Path:
        """Of a family that has one."""
        return self.graphs["decoder"]

    @property
    def explain(self) -> Path | None:
        """The graph that returns all attention weights; the bundle may have none."""
        return self.path / self.manifest.explain if self.manifest.explain else None


def load_bundle(path: Path, precision: str) -> LoadedBundle:
    """Read and check the bundle in folder ``path``; raises BundleError with every fault found.

    Every file is hashed and every precision's graphs must be there; the inputs and outputs of the graphs are checked
    for ``precision`` alone, and only where the bytes are the listed ones.
    """
    faults: list[str] = []
    manifest = _read_json(path / MANIFEST, Bundle(), faults)
    if manifest is None:
        raise BundleError(path, faults)
    rules = RULES.get(manifest.family)
    faults += manifest_faults(manifest)
    good = _check_files(path, manifest, faults)
    graphs = _check_graphs(path, manifest, precision, good, faults)
    special = rules.special_names(manifest) if rules else []
    tokenizer = _load_tokenizer(path, manifest, special, faults) if TOKENIZER in good else None
    options: DecodingOptions | None = DecodingOptions()
    if GENERATION in _required(manifest):
        options = _load_generation(path, manifest, faults) if GENERATION in good else None
    if faults or graphs is None or tokenizer is None or options is None:
        raise BundleError(path, faults)
    return LoadedBundle(path, precision, manifest, tokenizer, options, graphs)


def _read_json(path: Path, message: M, faults: list[str]) -> M | None:
    """Parse proto3 JSON; unknown fields are faults, but do not hide the ones after them."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            faults.append(f"{path.name}: longer than {_MAX_JSON_BYTES} bytes")
            return None
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path.name}: cannot be read: {error}")
        return None
    if not text.lstrip().startswith("{"):  # the parser would take an empty list for an empty message
        faults.append(f"{path.name}: not a JSON object")
        return None
    try:
        return json_format.Parse(text, message, max_recursion_depth=20)
    except json_format.ParseError as error:
        faults.append(f"{path.name}: {error}")
    message.Clear()
    try:
        return json_format.Parse(text, message, ignore_unknown_fields=True, max_recursion_depth=20)
    except json_format.ParseError:
        return None


def _check_files(root: Path, manifest: Bundle, faults: list[str]) -> set[str]:
    """Check every listed file, and that nothing is unlisted; returns the paths that are as listed."""
    good: set[str] = set()
    for path, count in Counter(file.path for file in manifest.files).items():
        if count > 1:
            faults.append(f"{path}: listed twice")
    for file in manifest.files:
        fault = _path_fault(file.path) or _content_fault(root, file)
        if fault:
            faults.append(f"{file.path!r}: {fault}")
        else:
            good.add(file.path)
    listed = {file.path for file in manifest.files} | {MANIFEST}
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
    faults += [
        f"{path!r}: in the folder, but not listed in {MANIFEST}"
        for path in sorted(present - listed)
        if not PurePosixPath(path).name.startswith(".")  # what editors and file systems leave behind
    ]
    faults += [f"{path}: not listed in {MANIFEST}" for path in _required(manifest) if path not in listed]
    return good


def _required(manifest: Bundle) -> list[str]:
    """Files of a known name: an encoder decodes nothing, so it has no options for that."""
    rules = RULES.get(manifest.family)
    return [TOKENIZER] if rules and "decoder" not in rules.roles else [TOKENIZER, GENERATION]


def _path_fault(path: str) -> str | None:
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or ":" in parts[0]:
        return "not a relative path with forward slashes"
    if any(part in ("", ".", "..") for part in parts):
        return "leaves the folder or is not in its shortest form"
    return f"{MANIFEST} cannot list itself" if path == MANIFEST else None


def _content_fault(root: Path, file: File) -> str | None:
    path = root / file.path
    if not path.resolve().is_relative_to(root.resolve()):
        return "a link that leaves the folder"
    if not path.is_file():
        return "missing"
    if not _SHA256.fullmatch(file.sha256):
        return f"sha256 = {file.sha256[:80]!r}: 64 lower-case hexadecimal digits"
    size = path.stat().st_size
    if size != file.bytes:
        return f"{size} bytes, listed with {file.bytes}"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return None if digest == file.sha256 else f"SHA-256 {digest}, listed with {file.sha256}"


def _check_graphs(
    root: Path, manifest: Bundle, precision: str, good: set[str], faults: list[str]
) -> dict[str, Path] | None:
    """Check all graphs for being listed and self-contained, and those of ``precision`` for their ports.

    Returns those of ``precision`` by role; None where it is not offered, or the family is unknown.
    """
    listed = {file.path for file in manifest.files}
    rules = RULES.get(manifest.family)
    roles = rules.roles if rules else ()
    named = {
        f"precisions.{name}.{role}": getattr(graphs, role)
        for name, graphs in manifest.precisions.items()
        for role in roles
    }
    if manifest.explain:
        named["explain"] = manifest.explain
    sound: set[str] = set()
    for field, path in named.items():
        if path not in listed:
            faults.append(f"{field} = {path!r}: not listed in {MANIFEST}")
        elif path in good:
            weights = _external_weights(root, path, listed, faults)
            sound |= {path} if weights is not None and weights <= good else set()
    if precision not in manifest.precisions:
        faults.append(f"precision {precision!r}: the bundle offers {', '.join(sorted(manifest.precisions)) or 'none'}")
        return None
    if rules is None:
        return None
    paths = {role: getattr(manifest.precisions[precision], role) for role in roles}
    graphs = {role: root / path for role, path in paths.items()}
    if set(paths.values()) <= sound:
        faults += [f"{precision}: {fault}" for fault in rules.graph_faults(graphs, manifest)]
    if manifest.explain in sound:
        signature = explain_signature(manifest.family, manifest.dimensions)
        check_graph("explain", root / manifest.explain, signature, faults)
    return graphs


def _external_weights(root: Path, path: str, listed: set[str], faults: list[str]) -> set[str] | None:
    """The files beside the graph's that hold some of its weights; None where one may not be read.

    Each must be listed, and so hashed: onnxruntime would open any. Locations are seen from the graph's folder.
    """
    try:
        locations = external_locations((root / path).read_bytes())
    except ValueError as error:
        faults.append(f"{path}: not an ONNX file: {error}")
        return None
    targets = {location: (PurePosixPath(path).parent / location).as_posix() for location in sorted(locations)}
    refused = [location for location, target in targets.items() if _path_fault(location) or target not in listed]
    faults += [f"{path}: external data in {name!r}, which is not a listed file of the bundle" for name in refused]
    return None if refused else set(targets.values())


def _load_tokenizer(root: Path, manifest: Bundle, special: list[str], faults: list[str]) -> Tokenizer | None:
    try:
        tokenizer = Tokenizer.from_file(str(root / TOKENIZER))
    except Exception as error:  # tokenizers raises plain Exception
        faults.append(f"{TOKENIZER}: cannot be read: {error}")
        return None
    vocabulary, size = manifest.dimensions.vocabulary, tokenizer.get_vocab_size(with_added_tokens=True)
    if size != vocabulary:
        faults.append(f"{TOKENIZER}: {size} tokens, but dimensions.vocabulary = {vocabulary}")
    known = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    for name in special:
        token_id = getattr(manifest.special_ids, name)
        if token_id not in known:
            faults.append(f"special_ids.{name} = {token_id}: not a special token of {TOKENIZER}")
    for language in manifest.languages:
        found = tokenizer.token_to_id(language.tag)
        if found != language.tag_id:
            faults.append(f"languages: {language.tag!r} has tag_id {language.tag_id}, but {found} in {TOKENIZER}")
        elif found not in known:
            faults.append(f"languages: {language.tag!r} is not a special token of {TOKENIZER}")
    return tokenizer


def _load_generation(root: Path, manifest: Bundle, faults: list[str]) -> DecodingOptions | None:
    options = _read_json(root / GENERATION, DecodingOptions(), faults)
    if options is None:
        return None
    limit = manifest.limits.target_tokens
    if options.HasField("max_length") and not 1 <= options.max_length <= limit:
        faults.append(f"{GENERATION}: maxLength = {options.max_length}: 1 to limits.target_tokens, {limit}")
    return options
