"""A model repository: ``<root>/<name>/<version>/bundle.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dragoman_server.errors import NotFound
from dragoman_server.version_policy import MODEL_NAME, MODEL_VERSION

_NAME = re.compile(MODEL_NAME)
_VERSION = re.compile(MODEL_VERSION)


@dataclass(frozen=True)
class ModelVersion:
    """One bundle of the repository; it has not been looked into."""

    name: str
    version: int
    path: Path


def default_root() -> Path:
    """``./models`` where it exists, else the models inside the installed package."""
    local = Path("models")
    return local if local.is_dir() else Path(__file__).parent / "models"


class Repository:
    """Finds models by listing the folder; what a user sends is compared with the list, never joined to a path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[ModelVersion]:
        """Every model and version, by name, newest version first. Other folders are passed over.

        Raises NotFound where the root is no folder.
        """
        if not self.root.is_dir():
            raise NotFound("the model repository is not there")
        found = [
            ModelVersion(model.name, int(version.name), version)
            for model in self.root.iterdir()
            if _NAME.fullmatch(model.name) and model.is_dir()
            for version in model.iterdir()
            if _VERSION.fullmatch(version.name) and (version / "bundle.json").is_file()
        ]
        return sorted(found, key=lambda entry: (entry.name, -entry.version))

    def find_all(self, name: str) -> list[ModelVersion]:
        """Every version of the named model, the newest first. Raises NotFound where there is none."""
        if found := [entry for entry in self.models() if entry.name == name]:
            return found
        raise NotFound(f"no model {name[:64]!r} in the repository")

    def find(self, name: str, version: int | None = None) -> ModelVersion:
        """The named model, its newest version where none is asked for. Raises NotFound."""
        for entry in self.models():
            if entry.name == name and version in (None, entry.version):
                return entry
        wanted = repr(name[:64]) if version is None else f"{name[:64]!r}, version {version}"
        raise NotFound(f"no model {wanted} in the repository")


Stamp = tuple[tuple[str, int, int], ...] | None
"""Names, sizes and times of a version's files; None where they cannot be read."""


def stamp_of(entry: ModelVersion) -> Stamp:
    """By this one tells whether a version's folder was changed."""
    try:
        files = [(path, path.stat()) for path in sorted(entry.path.rglob("*"))]
    except OSError:
        return None
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path, status in files)
