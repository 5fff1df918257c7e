"""The families of models: which config makes which model, and which of them a config.json describes."""

from __future__ import annotations

import json

from dragoman_model.config import Config, DecoderConfig, EncoderConfig, ModelConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.transformer import Transformer

AnyModel = Transformer | LanguageModel | TextEncoder

_CONFIGS: dict[str, type[ModelConfig]] = {
    "encoder-decoder": Config,
    "decoder": DecoderConfig,
    "encoder": EncoderConfig,
}


def read_config(text: str) -> ModelConfig:
    """What a config.json says; without ``family`` it is an encoder-decoder's. ValueError names every fault."""
    raw = json.loads(text)
    family = raw.get("family", "encoder-decoder")
    if family not in _CONFIGS:
        raise ValueError(f"family = {family!r} must be one of {', '.join(_CONFIGS)}")
    return _CONFIGS[family].model_validate(raw)


def build_model(config: ModelConfig) -> AnyModel:
    """A model with fresh weights."""
    match config:
        case Config():
            return Transformer(config)
        case DecoderConfig():
            return LanguageModel(config)
        case EncoderConfig():
            return TextEncoder(config)
        case _:
            raise AssertionError(f"no model for {type(config).__name__}")
