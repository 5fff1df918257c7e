"""From settings to running models: everything is validated first, then engines start and answer once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server import machine
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.errors import NotFound, ServerError, Violation
from dragoman_server.first_answers import FirstAnswer
from dragoman_server.generation_host import GenerationHost
from dragoman_server.model_host import ModelHost
from dragoman_server.service.option_limits import option_violations, source_option_violations
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.translation_host import TranslationHost

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.explaining.explainer import Explainer
    from dragoman_server.repository import ModelVersion
    from dragoman_server.understanding_host import UnderstandingHost

_TOKENS_AROUND = 2
"""Language tag and end-of-sentence, or [CLS] and [SEP]."""
_CUDA = "CUDAExecutionProvider"

_log = structlog.get_logger(__name__)


class LoadingError(Exception):
    """Some models cannot be served; ``faults`` lists everything that is wrong with any of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Loaded:
    """Models whose engines run, and what each answered first (by its name)."""

    catalogue: Catalogue
    first_answers: Mapping[str, Sequence[FirstAnswer]]


def load(settings: Settings) -> Loaded:
    """Load the newest version of every model in the repository. Blocks.

    Raises SettingsError where the settings ask for what is not there, LoadingError with the faults of all bundles.
    """
    _check_device(settings)
    entries = newest_versions(settings.models)
    default = choose_default([entry.name for entry in entries], settings.default_model)
    bundles = _validated(entries, settings)
    hosts: list[ModelHost] = []
    try:
        for entry, bundle in bundles:
            host = replace(_host(entry, bundle, settings), explainer=_explainer(bundle))
            hosts.append(host)
            host.engine.start()
        _report_device(hosts)
        return Loaded(Catalogue(hosts, default), {host.name: _first_answers(host) for host in hosts})
    except BaseException:
        for host in hosts:
            host.stop(0)
        raise


def newest_versions(root: Path | None) -> list[ModelVersion]:
    """The newest version of every model in the repository at ``root``, by name; None: the default repository.

    Raises SettingsError where there is none.
    """
    from dragoman_server.repository import Repository, default_root  # noqa: PLC0415  (kept off the path of --help)

    repository = Repository(root or default_root())
    newest: dict[str, ModelVersion] = {}
    try:
        for entry in repository.models():
            newest.setdefault(entry.name, entry)  # the newest version comes first
    except NotFound as error:
        raise SettingsError([Violation("models", str(repository.root), "a folder that holds models")]) from error
    if not newest:
        limit = "a folder with <name>/<version>/bundle.json in it"
        raise SettingsError([Violation("models", str(repository.root), limit)])
    return list(newest.values())


def _check_device(settings: Settings) -> None:
    if settings.device != "cuda":
        return
    import onnxruntime  # noqa: PLC0415  (slow, and needed here alone)

    available = onnxruntime.get_available_providers()
    if _CUDA not in available:
        limit = f"{_CUDA} is missing: onnxruntime offers {', '.join(available)}; pip install 'dragoman[server-gpu]'"
        raise SettingsError([Violation("device", "cuda", limit)])
    # Never fall back in silence: the runtime of this version has no GPU lanes.
    raise SettingsError([Violation("device", "cuda", "auto or cpu: this version decodes on the CPU")])


def _validated(entries: Sequence[ModelVersion], settings: Settings) -> list[tuple[ModelVersion, LoadedBundle]]:
    from dragoman_server.bundle import BundleError, load_bundle  # noqa: PLC0415  (imports onnxruntime)

    bundles = []
    faults: list[str] = []
    for entry in entries:
        try:
            bundle = load_bundle(entry.path, settings.precision)
        except BundleError as error:
            faults += [f"{entry.path}: {fault}" for fault in error.faults]
            continue
        if bundle.manifest.name != entry.name:
            faults.append(f"{entry.path}: name = {bundle.manifest.name!r}: its folder is called {entry.name!r}")
        violations = _default_violations(bundle, settings)
        faults += [f"{entry.path}: generation.json: {v.field} = {v.value}: {v.limit}" for v in violations]
        bundles.append((entry, bundle))
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


def _host(entry: ModelVersion, bundle: LoadedBundle, settings: Settings) -> ModelHost:
    family = bundle.manifest.family
    if family == Bundle.FAMILY_ENCODER_DECODER:
        return _translation_host(entry, bundle, settings)
    if family == Bundle.FAMILY_DECODER:
        return _generation_host(entry, bundle, settings)
    if family == Bundle.FAMILY_ENCODER:
        return _understanding_host(entry, bundle, settings)
    raise LoadingError([f"{entry.path}: family = {Bundle.Family.Name(family)}: no engine of this server runs it"])


def _translation_host(entry: ModelVersion, bundle: LoadedBundle, settings: Settings) -> TranslationHost:
    from dragoman_server.engine import Engine  # noqa: PLC0415  (numpy)
    from dragoman_server.runtime import OnnxRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.tokenization import TextCodec  # noqa: PLC0415  (tokenizers)

    manifest = bundle.manifest
    runtimes = [
        OnnxRuntime(
            bundle.encoder,
            bundle.decoder,
            dimensions=manifest.dimensions,
            limits=manifest.limits,
            max_rows=settings.max_rows,
        )
        for _ in range(settings.lanes)
    ]
    engine = Engine(
        runtimes,
        bos=manifest.special_ids.bos,
        eos=manifest.special_ids.eos,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        ageing_seconds=settings.ageing,
    )
    codec = TextCodec(
        bundle.tokenizer,
        tags={language.code: language.tag_id for language in manifest.languages},
        eos=manifest.special_ids.eos,
    )
    return TranslationHost(
        bundle=manifest,
        version=str(entry.version),
        codec=codec,
        engine=engine,
        precision=bundle.precision,
        provider=runtimes[0].provider,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        default_options=bundle.default_options,
        longest_text=(manifest.limits.source_tokens - _TOKENS_AROUND) * codec.longest_token,
    )


def _generation_host(entry: ModelVersion, bundle: LoadedBundle, settings: Settings) -> GenerationHost:
    from dragoman_server.prompt_engine import PromptEngine  # noqa: PLC0415  (numpy)
    from dragoman_server.prompt_runtime import OnnxPromptRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.tokenization import TextCodec  # noqa: PLC0415  (tokenizers)

    manifest = bundle.manifest
    runtimes = [
        OnnxPromptRuntime(
            bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=settings.max_rows
        )
        for _ in range(settings.lanes)
    ]
    engine = PromptEngine(
        runtimes,
        eos=manifest.special_ids.eos,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        ageing_seconds=settings.ageing,
    )
    codec = TextCodec(bundle.tokenizer, tags={}, eos=manifest.special_ids.eos)
    return GenerationHost(
        bundle=manifest,
        version=str(entry.version),
        codec=codec,
        engine=engine,
        precision=bundle.precision,
        provider=runtimes[0].provider,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        default_options=bundle.default_options,
        longest_text=manifest.limits.target_tokens * codec.longest_token,
    )


def _understanding_host(entry: ModelVersion, bundle: LoadedBundle, settings: Settings) -> UnderstandingHost:
    from dragoman_server.encoder_codec import EncoderCodec  # noqa: PLC0415  (tokenizers)
    from dragoman_server.pass_engine import PassEngine  # noqa: PLC0415  (numpy)
    from dragoman_server.pass_runtime import OnnxPassRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.understanding_host import UnderstandingHost  # noqa: PLC0415  (onnxruntime)

    manifest = bundle.manifest
    special = manifest.special_ids
    runtimes = [
        OnnxPassRuntime(
            bundle.encoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=settings.max_rows
        )
        for _ in range(settings.lanes)
    ]
    engine = PassEngine(
        runtimes,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        ageing_seconds=settings.ageing,
    )
    codec = EncoderCodec(
        bundle.tokenizer, cls=special.cls, sep=special.sep, mask=special.mask if special.HasField("mask") else None
    )
    return UnderstandingHost(
        bundle=manifest,
        version=str(entry.version),
        codec=codec,
        engine=engine,
        precision=bundle.precision,
        provider=runtimes[0].provider,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        longest_text=(manifest.limits.source_tokens - _TOKENS_AROUND) * codec.longest_token,
    )


def _explainer(bundle: LoadedBundle) -> Explainer | None:
    """It loads its graph when the first request comes: most servers are never asked."""
    from dragoman_server.explaining.explainer import Explainer  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.explaining.graph import ExplainGraph  # noqa: PLC0415

    return None if bundle.explain is None else Explainer(partial(ExplainGraph, bundle.explain))


def _first_answers(host: ModelHost) -> list[FirstAnswer]:
    try:
        return host.first_answers()
    except (ServerError, TimeoutError) as error:
        raise LoadingError([f"{host.name} version {host.version}: the first request failed: {error}"]) from error


def _report_device(hosts: Sequence[ModelHost]) -> None:
    for host in hosts:
        log = _log.bind(model=host.name, version=host.version, provider=host.provider, lanes=host.lanes)
        if machine.has_nvidia_gpu() and host.provider != _CUDA:
            log.warning("model started WITHOUT the GPU of this machine")
        else:
            log.info("model started")
