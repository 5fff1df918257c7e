"""A model repository: ``<root>/<name>/<version>/bundle.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dragoman_server.errors import NotFound

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


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
            raise NotFound(f"no model repository at {self.root}")
        found = [
            ModelVersion(model.name, int(version.name), version)
            for model in self.root.iterdir()
            if _NAME.fullmatch(model.name) and model.is_dir()
            for version in model.iterdir()
            if _VERSION.fullmatch(version.name) and (version / "bundle.json").is_file()
        ]
        return sorted(found, key=lambda entry: (entry.name, -entry.version))

    def find(self, name: str, version: int | None = None) -> ModelVersion:
        """The named model, its newest version where none is asked for. Raises NotFound."""
        for entry in self.models():
            if entry.name == name and version in (None, entry.version):
                return entry
        wanted = repr(name[:64]) if version is None else f"{name[:64]!r}, version {version}"
        raise NotFound(f"no model {wanted} in the repository")
