"""The manifest of an encoder-only model, before anything was exported or measured."""

from __future__ import annotations

from dragoman_export.describing import describe
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.config import EncoderConfig
from dragoman_model.text_encoder import TextEncoder
from dragoman_protos.v1.bundle_pb2 import Bundle, Classifier, Limits, SpecialIds, Tagger


def describe_encoder(trained: TrainedModel[TextEncoder], *, name: str, limits: Limits) -> Bundle:
    """A task for each of the model's heads, and embedding, which needs none."""
    config = trained.model.config
    manifest = describe(trained, name=name, limits=limits)
    manifest.family = Bundle.FAMILY_ENCODER
    if config.labels:
        manifest.tasks.append(Bundle.TASK_CLASSIFY)
        manifest.classifier.CopyFrom(
            Classifier(
                labels=config.labels,
                multi_label=config.multi_label,
                out_of_scope_threshold=config.out_of_scope_threshold,
                pairs=config.pairs,
            )
        )
    if config.tags:
        manifest.tasks.append(Bundle.TASK_TAG)
        manifest.tagger.CopyFrom(Tagger(tags=config.tags, bio=config.bio))
    if config.mask_head:
        manifest.tasks.append(Bundle.TASK_FILL_MASK)
    manifest.tasks.append(Bundle.TASK_EMBED)
    manifest.embedding_note = _embedding_note(config)
    manifest.dimensions.encoder_layers = config.encoder_layers
    manifest.dimensions.segments = config.segments
    manifest.special_ids.CopyFrom(
        SpecialIds(pad=config.pad_id, unk=config.unk_id, cls=config.cls_id, sep=config.sep_id, mask=config.mask_id)
    )
    return manifest


def _embedding_note(config: EncoderConfig) -> str:
    """What the training says of the vectors: none of the tasks teaches to compare meanings."""
    if config.labels:
        return (
            f"The model was trained to tell {len(config.labels)} labels apart: texts of one label lie near each other. "
            "Good for grouping texts like those that it was trained on; it was not trained to compare meanings."
        )
    if config.tags:
        return (
            "The model was trained to tag words: its vectors tell more of word classes than of meaning. "
            "Good as features; it was not trained to compare texts."
        )
    return (
        "The model was trained to fill in hidden words. "
        "Good as features of a classifier; it was not trained to compare texts, and cosines between them say little."
    )
