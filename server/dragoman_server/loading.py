"""From settings to running models: everything is validated first, then engines start and answer once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server import machine
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.compiled_kernels import KernelsUnavailableError, library_for, open_library
from dragoman_server.device import CPU, CUDA_PROVIDER, Device
from dragoman_server.device_choice import choose_device, settings_for
from dragoman_server.errors import NotFound, ServerError, Violation
from dragoman_server.first_answers import FirstAnswer
from dragoman_server.gpu_memory import fitted
from dragoman_server.memory_budget import MemoryBudget, MemoryShort, memory_need
from dragoman_server.model_host import ModelHost
from dragoman_server.service.option_limits import option_violations, source_option_violations
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.version_policy import parse_policies

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.repository import ModelVersion

_log = structlog.get_logger(__name__)


class LoadingError(Exception):
    """Some models cannot be served; ``faults`` lists everything that is wrong with any of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Loaded:
    """Models whose engines run, what each answered first (by its name and version), and what loads further ones."""

    catalogue: Catalogue
    first_answers: Mapping[tuple[str, str], Sequence[FirstAnswer]]
    loader: ModelLoader


def load(settings: Settings) -> Loaded:
    """Load what the version policy says of every model in the repository. Blocks.

    Raises SettingsError where the settings ask for what is not there, LoadingError with the faults of all bundles.
    """
    device = choose_device(settings)
    _check_kernels(settings, device)
    settings = settings_for(settings, device)
    entries = chosen_versions(settings)
    default = choose_default({entry.name for entry in entries}, settings.default_model)
    loader = ModelLoader(settings, device=device)
    hosts: list[ModelHost] = []
    answers = {}
    try:
        for entry, bundle in _validated(loader, entries):
            host, first = loader.start(entry, bundle)
            hosts.append(host)
            answers[host.name, host.version] = first
        return Loaded(Catalogue(hosts, default), answers, loader)
    except BaseException:
        for host in hosts:
            host.stop(0)
        raise


class ModelLoader:
    """Loads one version after the other on a device, each only if there is memory for it. Threads may share it."""

    def __init__(self, settings: Settings, budget: MemoryBudget | None = None, *, device: Device = CPU) -> None:
        self._settings, self._device = settings, device
        limit = settings.memory_limit
        self._budget = budget or MemoryBudget(None if limit is None else limit << 20)

    def load(self, entry: ModelVersion) -> ModelHost:
        """A model whose engine runs and has answered; blocks. Raises LoadingError, whose faults name no path."""
        host, _ = self.start(entry, self.validated(entry))
        return host

    def validated(self, entry: ModelVersion) -> LoadedBundle:
        """The bundle of the version. Raises LoadingError with all its faults."""
        from dragoman_server.bundle import BundleError, load_bundle  # noqa: PLC0415  (imports onnxruntime)

        try:
            bundle = load_bundle(entry.path, self._settings.precision)
        except BundleError as error:
            raise LoadingError([fault.replace(f"{entry.path}/", "") for fault in error.faults]) from error
        faults = []
        if bundle.manifest.name != entry.name:
            faults.append(f"name = {bundle.manifest.name!r}: its folder is called {entry.name!r}")
        violations = _default_violations(bundle, self._settings)
        faults += [f"generation.json: {v.field} = {v.value}: {v.limit}" for v in violations]
        if faults:
            raise LoadingError(faults)
        return bundle

    def start(self, entry: ModelVersion, bundle: LoadedBundle) -> tuple[ModelHost, list[FirstAnswer]]:
        """Start the engine of a validated bundle, and what it answered first; blocks. Raises LoadingError."""
        from dragoman_server.building import build_host  # noqa: PLC0415  (onnxruntime)

        settings, device = self._settings, self._device
        try:
            if device.kind == "cuda":
                settings, device = fitted(bundle, settings, device)
            resident = device.kind == "cuda"
            need = memory_need(bundle, lanes=settings.lanes, max_rows=settings.max_rows, resident=resident)
            with self._budget.loading(need):
                host = build_host(entry.version, bundle, settings, device)
                self._budget.promise(host, need)
        except (MemoryShort, ValueError) as error:
            raise LoadingError([str(error)]) from error
        try:
            host.engine.start()
            answers = host.first_answers()
        except (ServerError, TimeoutError) as error:
            host.stop(0)
            raise LoadingError([f"the first request failed: {error}"]) from error
        except BaseException:
            host.stop(0)
            raise
        _report_device(host)
        return host, answers


def chosen_versions(settings: Settings) -> list[ModelVersion]:
    """What the version policy chooses of the repository, by name; the newest version comes first of each.

    Raises SettingsError where the repository has no model, or none that the policy asks for.
    """
    policies = parse_policies(settings.version_policy)
    chosen = policies.chosen(all_versions(settings.models))
    absent = [
        Violation("version_policy", settings.version_policy, f"{name} has no such version in the repository")
        for name in sorted(chosen.keys() | policies.own.keys())
        if not chosen.get(name)
    ]
    if absent:
        raise SettingsError(absent)
    return [entry for versions in chosen.values() for entry in versions]


def all_versions(root: Path | None) -> list[ModelVersion]:
    """Every version of every model in the repository at ``root``, by name, the newest first; None: the default one.

    Raises SettingsError where there is none.
    """
    from dragoman_server.repository import Repository, default_root  # noqa: PLC0415  (kept off the path of --help)

    repository = Repository(root or default_root())
    try:
        entries = repository.models()
    except NotFound as error:
        raise SettingsError([Violation("models", str(repository.root), "a folder that holds models")]) from error
    if not entries:
        limit = "a folder with <name>/<version>/bundle.json in it"
        raise SettingsError([Violation("models", str(repository.root), limit)])
    return entries


def newest_versions(root: Path | None) -> list[ModelVersion]:
    """The newest version of every model in the repository at ``root``, by name; None: the default repository.

    Raises SettingsError where there is none.
    """
    newest: dict[str, ModelVersion] = {}
    for entry in all_versions(root):
        newest.setdefault(entry.name, entry)
    return list(newest.values())


def _check_kernels(settings: Settings, device: Device) -> None:
    """Say which operators will run, or SettingsError where the compiled ones are asked for and not to be had."""
    try:
        library = library_for(settings.kernels, device)
    except KernelsUnavailableError as error:
        raise SettingsError([Violation("kernels", settings.kernels, f"auto or builtin: {error}")]) from error
    found = "onnxruntime's" if library is None else f"compiled, {open_library(library).instructions}"
    _log.info("operators chosen", kernels=found)


def _validated(loader: ModelLoader, entries: Sequence[ModelVersion]) -> list[tuple[ModelVersion, LoadedBundle]]:
    bundles = []
    faults: list[str] = []
    for entry in entries:
        try:
            bundles.append((entry, loader.validated(entry)))
        except LoadingError as error:
            faults += [f"{entry.path}: {fault}" for fault in error.faults]
    if faults:
        raise LoadingError(faults)
    return bundles


def _default_violations(bundle: LoadedBundle, settings: Settings) -> list[Violation]:
    """Faults of the bundle's default options, of a family that decodes."""
    manifest = bundle.manifest
    if manifest.family == Bundle.FAMILY_ENCODER:
        return []
    violations = option_violations(bundle.default_options, manifest.limits, settings.max_rows)
    if manifest.family == Bundle.FAMILY_DECODER:
        violations += source_option_violations(bundle.default_options)
    return violations


def _report_device(host: ModelHost) -> None:
    log = _log.bind(model=host.name, version=host.version, provider=host.provider, lanes=host.lanes)
    if machine.has_nvidia_gpu() and host.provider != CUDA_PROVIDER:
        log.warning("model started WITHOUT the GPU of this machine")
    else:
        log.info("model started")
