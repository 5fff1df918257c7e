"""Compiles the operators in this folder: ``python -m dragoman_server.kernels.build``, and when Dragoman is built.

Needs the standard library and a C++ compiler, nothing else: the build of the distribution reads this file by its path.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
# In a folder that is no package: what looks for modules takes every .so of a package for one.
LIBRARY = SOURCES / "compiled" / "libdragoman_kernels.so"
_COMPILERS = ("c++", "g++", "clang++")
_OPTIONS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-math-errno",
    # Multiplications and additions are joined where the sources say so, and nowhere else.
    "-ffp-contract=off",
    # It would move loads across loops, and the sums of a product out of their registers.
    "-fno-tree-pre",
    "-Wall",
    "-Wextra",
    # gcc's own headers of AVX-512 begin with values that they leave open.
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
    # One library for systems with another C++ runtime, or none.
    "-static-libgcc",
    "-static-libstdc++",
)
_SECONDS = 300


class BuildError(Exception):
    """There is no compiler, or it did not take the sources."""


def compiler() -> list[str] | None:
    """The C++ compiler's command: that of the environment variable CXX, else one that is on the path, else None."""
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    found = next(filter(None, map(shutil.which, _COMPILERS)), None)
    return None if found is None else [found]


def build(library: Path = LIBRARY) -> Path:
    """Compile the library; what was there is replaced in one move. BuildError with the compiler's words."""
    command = compiler()
    if command is None:
        raise BuildError(f"no C++ compiler: none of {', '.join(_COMPILERS)} is on the path, and CXX is not set")
    unfinished = library.with_name(f".{library.name}.{os.getpid()}")
    sources = sorted(str(path) for path in SOURCES.glob("*.cc"))
    try:
        library.parent.mkdir(exist_ok=True)
        subprocess.run(
            [*command, *_OPTIONS, *sources, "-o", str(unfinished)],
            check=True,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        unfinished.replace(library)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{shlex.join(command)} failed:\n{error.stderr}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{shlex.join(command)}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return library


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as failure:
        sys.exit(str(failure))
