"""The manifest of a trained model, before anything was exported or measured."""

from __future__ import annotations

import hashlib

from dragoman_export.graphs import TOP_K
from dragoman_export.sentences import recipe_facts
from dragoman_model.checkpoint import CheckpointError, TrainedModel
from dragoman_model.families import ServedModel
from dragoman_model.language_model import LanguageModel
from dragoman_model.tokenizer import language_tag
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions, Language, Limits, Provenance, SpecialIds
from dragoman_server.bundle_manifest import FORMAT_VERSION


def describe(trained: TrainedModel[ServedModel], *, name: str, limits: Limits) -> Bundle:
    """What every family says alike: no family yet, no tasks, no dimensions of layers, no special ids."""
    config, provenance = trained.model.config, trained.provenance
    facts = recipe_facts(provenance)
    recipe = f"{facts.name} (SHA-256 {hashlib.sha256(provenance.recipe.encode()).hexdigest()[:16]})"
    return Bundle(
        format_version=FORMAT_VERSION,
        name=name,
        description=provenance.description,
        dimensions=Dimensions(
            vocabulary=config.vocabulary,
            d_model=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            d_ff=config.d_ff,
            parameters=trained.model.parameter_count,
        ),
        limits=limits,
        provenance=Provenance(
            licence=provenance.licence,
            attribution=provenance.attribution,
            training_data=provenance.training_data,
            recipe=recipe if facts.name else "",
            updates=provenance.updates,
            checkpoint_sha256=trained.sha256,
        ),
    )


def describe_translation(trained: TrainedModel[Transformer], *, name: str, limits: Limits) -> Bundle:
    """Of an encoder-decoder model. CheckpointError where the tokenizer lacks a language's tag."""
    config = trained.model.config
    manifest = describe(trained, name=name, limits=limits)
    manifest.family = Bundle.FAMILY_ENCODER_DECODER
    manifest.tasks.append(Bundle.TASK_TRANSLATE)
    for language in trained.provenance.languages:
        tag = language_tag(language.code)
        manifest.languages.append(
            Language(code=language.code, name=language.name, tag=tag, tag_id=_token_id(trained, tag))
        )
    manifest.dimensions.MergeFrom(
        Dimensions(
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            top_k=min(TOP_K, config.vocabulary),
        )
    )
    manifest.special_ids.CopyFrom(
        SpecialIds(pad=config.pad_id, unk=config.unk_id, bos=config.bos_id, eos=config.eos_id)
    )
    return manifest


def describe_generation(trained: TrainedModel[LanguageModel], *, name: str, limits: Limits) -> Bundle:
    """Of a decoder-only model."""
    config = trained.model.config
    manifest = describe(trained, name=name, limits=limits)
    manifest.family = Bundle.FAMILY_DECODER
    manifest.tasks.append(Bundle.TASK_GENERATE)
    manifest.dimensions.decoder_layers = config.decoder_layers
    manifest.dimensions.top_k = min(TOP_K, config.vocabulary)
    manifest.special_ids.CopyFrom(
        SpecialIds(pad=config.pad_id, unk=config.unk_id, bos=config.bos_id, eos=config.eos_id)
    )
    return manifest


def _token_id(trained: TrainedModel[Transformer], tag: str) -> int:
    found = trained.tokenizer.token_to_id(tag)
    if found is None:
        raise CheckpointError(f"the tokenizer has no token {tag}, which asks for one of the model's languages")
    return found
