"""From a checked bundle to a host: sessions, caches and an engine, of whichever family."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.compiled_kernels import library_for
from dragoman_server.device import CPU, Device
from dragoman_server.engine_settings import EngineSettings
from dragoman_server.generation_host import GenerationHost
from dragoman_server.model_host import ModelHost
from dragoman_server.translation_host import TranslationHost

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.explaining.explainer import Explainer
    from dragoman_server.understanding_host import UnderstandingHost

_TOKENS_AROUND = 2
"""Language tag and end-of-sentence, or [CLS] and [SEP]."""


def build_host(version: int, bundle: LoadedBundle, settings: EngineSettings, device: Device = CPU) -> ModelHost:
    """The host of a checked bundle; its engine is yet to be started. ValueError for a family without one."""
    return replace(_engine_host(version, bundle, settings, device), explainer=_explainer(bundle))


def _engine_host(version: int, bundle: LoadedBundle, settings: EngineSettings, device: Device) -> ModelHost:
    family = bundle.manifest.family
    if family == Bundle.FAMILY_ENCODER_DECODER:
        return _translation_host(version, bundle, settings, device)
    if family == Bundle.FAMILY_DECODER:
        return _generation_host(version, bundle, settings, device)
    if family == Bundle.FAMILY_ENCODER:
        return _understanding_host(version, bundle, settings, device)
    raise ValueError(f"family = {Bundle.Family.Name(family)}: no engine of this server runs it")


def _translation_host(version: int, bundle: LoadedBundle, settings: EngineSettings, device: Device) -> TranslationHost:
    from dragoman_server.engine import Engine  # noqa: PLC0415  (numpy)
    from dragoman_server.runtime import OnnxRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.sessions import Sessions  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.tokenization import TextCodec  # noqa: PLC0415  (tokenizers)

    manifest, sessions = bundle.manifest, Sessions(settings.lane_threads)
    kernels = library_for(settings.kernels, device)
    runtimes = [
        OnnxRuntime(
            bundle.encoder,
            bundle.decoder,
            dimensions=manifest.dimensions,
            limits=manifest.limits,
            max_rows=settings.max_rows,
            device=device,
            kernels=kernels,
            sessions=sessions,
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
        version=str(version),
        codec=codec,
        engine=engine,
        precision=bundle.precision,
        provider=runtimes[0].provider,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        default_options=bundle.default_options,
        longest_text=(manifest.limits.source_tokens - _TOKENS_AROUND) * codec.longest_token,
    )


def _generation_host(version: int, bundle: LoadedBundle, settings: EngineSettings, device: Device) -> GenerationHost:
    from dragoman_server.prompt_engine import PromptEngine  # noqa: PLC0415  (numpy)
    from dragoman_server.prompt_runtime import OnnxPromptRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.sessions import Sessions  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.tokenization import TextCodec  # noqa: PLC0415  (tokenizers)

    manifest, sessions = bundle.manifest, Sessions(settings.lane_threads)
    kernels = library_for(settings.kernels, device)
    runtimes = [
        OnnxPromptRuntime(
            bundle.decoder,
            dimensions=manifest.dimensions,
            limits=manifest.limits,
            max_rows=settings.max_rows,
            device=device,
            kernels=kernels,
            sessions=sessions,
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
        version=str(version),
        codec=codec,
        engine=engine,
        precision=bundle.precision,
        provider=runtimes[0].provider,
        lanes=settings.lanes,
        max_rows=settings.max_rows,
        default_options=bundle.default_options,
        longest_text=manifest.limits.target_tokens * codec.longest_token,
    )


def _understanding_host(
    version: int, bundle: LoadedBundle, settings: EngineSettings, device: Device
) -> UnderstandingHost:
    from dragoman_server.encoder_codec import EncoderCodec  # noqa: PLC0415  (tokenizers)
    from dragoman_server.pass_engine import PassEngine  # noqa: PLC0415  (numpy)
    from dragoman_server.pass_runtime import OnnxPassRuntime  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.sessions import Sessions  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.understanding_host import UnderstandingHost  # noqa: PLC0415  (onnxruntime)

    manifest, sessions = bundle.manifest, Sessions(settings.lane_threads)
    special = manifest.special_ids
    runtimes = [
        OnnxPassRuntime(
            bundle.encoder,
            dimensions=manifest.dimensions,
            limits=manifest.limits,
            max_rows=settings.max_rows,
            device=device,
            kernels=library_for(settings.kernels, device) if bundle.precision == "int8" else None,
            sessions=sessions,
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
        version=str(version),
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
