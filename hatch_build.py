"""Compiles the server's operators into the wheel, where there is a C++ compiler; else the wheel is pure Python."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILD = "server/dragoman_server/kernels/build.py"


class KernelsBuildHook(BuildHookInterface[Any]):
    """Of wheels and of editable installs. Never fails: onnxruntime's own operators do the same, slower."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in the source tree, and take the library along."""
        kernels = _module(Path(self.root) / _BUILD)
        try:
            library: Path = kernels.build()
        except kernels.BuildError as error:
            self.app.display_warning(f"without compiled operators: {error}")
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        # Bound to the platform, but to no version of Python: the library knows nothing of it.
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _module(path: Path) -> ModuleType:
    """A module by its path: the package that it belongs to is not installed yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
