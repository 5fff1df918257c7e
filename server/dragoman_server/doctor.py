"""What ``dragoman doctor`` looks at: whether this machine and installation can serve, and how well."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import metadata

from dragoman_server import machine
from dragoman_server.compiled_kernels import PORTABLE, KernelLibrary, KernelsUnavailableError, open_library
from dragoman_server.device import CUDA_PROVIDER, Device, DeviceError
from dragoman_server.gpus import Gpu, gpus
from dragoman_server.settings import load_settings

_MEMORY_NEEDED = 400 << 20
_MEMORY_WANTED = 1 << 30
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\s*>=\s*(?P<version>[0-9.]+)")
_STAND_INS = {"onnxruntime": ("onnxruntime-gpu",)}
_SERVER_EXTRA = re.compile(r"""extra\s*==\s*["']server["']""")


class Verdict(Enum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing looked at, what was found, and what to do about it when it is not well."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


def examine(load_default_bundle: Callable[[], str]) -> list[Check]:
    """Look at everything. ``load_default_bundle`` says in a few words what it loaded, or raises."""
    return [
        python(sys.version_info[:3]),
        *packages(_declared_requirements()),
        providers(),
        *graphics(gpus(), _provider_offered, probe_gpu),
        instructions(machine.int8_instructions()),
        kernels(open_library),
        cores(machine.usable_cores()),
        memory(machine.available_memory()),
        default_bundle(load_default_bundle),
    ]


def python(version: tuple[int, ...]) -> Check:
    """The interpreter's version."""
    found = ".".join(map(str, version))
    if version < (3, 11):
        return Check("python", Verdict.FAIL, found, "Dragoman needs Python 3.11 or newer")
    return Check("python", Verdict.OK, found)


def packages(requirements: Iterable[str] | None) -> list[Check]:
    """Each required package with its version; ``requirements`` None: the distribution itself is not installed."""
    if requirements is None:
        hint = "versions are not checked: install with pip install 'dragoman[server]'"
        return [Check("dragoman", Verdict.WARN, "not installed as a package", hint)]
    checks = []
    for requirement in requirements:
        wanted = _REQUIREMENT.match(requirement)
        if wanted is None or ("extra" in requirement and not _SERVER_EXTRA.search(requirement)):
            continue
        found = _installed(wanted["name"])
        if found is None:
            checks.append(Check(wanted["name"], Verdict.FAIL, "missing", "pip install 'dragoman[server]'"))
            continue
        old = _numbers(found) < _numbers(wanted["version"])
        hint = f"needs {wanted['version']}: pip install --upgrade {wanted['name']}" if old else ""
        checks.append(Check(wanted["name"], Verdict.FAIL if old else Verdict.OK, found, hint))
    return checks


def _installed(name: str) -> str | None:
    """A distribution's version, or that of one that has the same module; None where there is none."""
    for known in (name, *_STAND_INS.get(name, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(known)
    return None


def providers() -> Check:
    """Where onnxruntime can run a graph."""
    try:
        available: list[str] = importlib.import_module("onnxruntime").get_available_providers()
    except ImportError as error:
        return Check("providers", Verdict.FAIL, type(error).__name__, "pip install 'dragoman[server]'")
    found = ", ".join(available)
    if "CPUExecutionProvider" not in available:
        return Check("providers", Verdict.FAIL, found, "this onnxruntime cannot run on the CPU: install another build")
    if machine.has_nvidia_gpu() and CUDA_PROVIDER not in available:
        return Check("providers", Verdict.WARN, found, "there is a GPU, but this onnxruntime was built without CUDA")
    return Check("providers", Verdict.OK, found)


def graphics(found: Sequence[Gpu], offered: Callable[[], bool], probe: Callable[[], None]) -> list[Check]:
    """Each GPU, and whether onnxruntime computes on the first; nothing to say of a machine without one.

    ``offered``: whether onnxruntime has the provider at all; ``probe`` runs something, or raises DeviceError.
    """
    checks = [
        Check(
            f"gpu {number}",
            Verdict.OK,
            f"{gpu.name}, driver {gpu.driver}, {gpu.free / (1 << 30):.1f} of {gpu.total / (1 << 30):.1f} GiB free",
        )
        for number, gpu in enumerate(found)
    ]
    if not found or not offered():  # the providers' check says so
        return checks
    try:
        probe()
    except DeviceError as error:
        return [*checks, Check("cuda", Verdict.FAIL, str(error), "docs/gpu.md lists the libraries that it needs")]
    return [*checks, Check("cuda", Verdict.OK, "onnxruntime computes on the first GPU")]


def _provider_offered() -> bool:
    try:
        return CUDA_PROVIDER in importlib.import_module("onnxruntime").get_available_providers()
    except ImportError:
        return False


def probe_gpu() -> None:
    """Run something on the first GPU; DeviceError where that fails."""
    from dragoman_server.device_choice import probe  # noqa: PLC0415  (onnxruntime may be what is missing)

    probe(Device("cuda", resident=True))


def instructions(flags: list[str] | None) -> Check:
    """Whether products of 8-bit numbers have instructions of their own."""
    if flags is None:
        return Check("int8 instructions", Verdict.WARN, "unknown", "this system does not list the processor's flags")
    if not flags:
        hint = "int8 graphs run, at a fraction of the speed of a processor with AVX-512 VNNI or AVX-VNNI"
        return Check("int8 instructions", Verdict.WARN, "none", hint)
    return Check("int8 instructions", Verdict.OK, ", ".join(flags))


def kernels(load: Callable[[], KernelLibrary]) -> Check:
    """Whether int8 models run on the compiled operators."""
    try:
        library = load()
    except KernelsUnavailableError as error:
        return Check("compiled operators", Verdict.WARN, "none", f"decoding is slower without; {error}")
    if library.instructions == PORTABLE:
        hint = "this processor has no AVX2: onnxruntime's own operators are faster, and serve"
        return Check("compiled operators", Verdict.WARN, library.instructions, hint)
    return Check("compiled operators", Verdict.OK, library.instructions)


def cores(count: int) -> Check:
    """How many lanes the server will start."""
    return Check("usable cores", Verdict.OK, str(count))


def memory(available: int | None) -> Check:
    """Whether the default model fits."""
    if available is None:
        return Check("memory", Verdict.WARN, "unknown", "this system does not tell the available memory")
    found = f"{available / (1 << 30):.1f} GiB available"
    if available < _MEMORY_NEEDED:
        return Check("memory", Verdict.FAIL, found, f"the default model needs {_MEMORY_NEEDED >> 20} MiB")
    if available < _MEMORY_WANTED:
        return Check("memory", Verdict.WARN, found, "enough for the default model alone; use fewer --max-rows")
    return Check("memory", Verdict.OK, found)


def default_bundle(load: Callable[[], str]) -> Check:
    """Whether the model that ``dragoman serve`` serves by default is there and whole."""
    try:
        return Check("default bundle", Verdict.OK, load())
    except Exception as error:  # whatever stands in its way is the finding
        hint = "dragoman inspect BUNDLE lists its faults; dragoman serve MODELS serves another repository"
        return Check("default bundle", Verdict.FAIL, f"{type(error).__name__}: {error}", hint)


def load_default_bundle() -> str:
    """Check every model that ``dragoman serve`` would serve by default; raises what would stop it."""
    from dragoman_server.bundle import load_bundle  # noqa: PLC0415  (onnxruntime may be what is missing)
    from dragoman_server.loading import newest_versions  # noqa: PLC0415

    settings = load_settings({})
    entries = newest_versions(settings.models)
    for entry in entries:
        load_bundle(entry.path, settings.precision)
    return ", ".join(f"{entry.name} version {entry.version}, {settings.precision}" for entry in entries)


def _declared_requirements() -> list[str] | None:
    try:
        return metadata.requires("dragoman") or []
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
