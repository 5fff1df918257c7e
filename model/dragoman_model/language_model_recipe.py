"""The recipe of a language model: which texts it learns, and how they are cut."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dragoman_model.config import DecoderConfig
from dragoman_model.recipe import BaseRecipe, DataSection
from dragoman_model.text_files import DocumentKind


class TextSection(DataSection):
    """Where the texts are. Each file is split by itself: first train, then valid; what is left is for tests."""

    files: list[Path] = Field(min_length=1)
    """Plain or gzip, UTF-8."""
    train_share: float = Field(default=0.9, gt=0, lt=1)
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    documents: DocumentKind = "files"
    """``files``: each file is one stream. ``paragraphs``: blank lines separate documents, each of which ends."""
    windows: Literal["random", "in-order"] = "random"
    """``random``: cut anew in every epoch, from a random offset, and shuffled."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.train_share + self.valid_share > 1.0 + 1e-9:
            raise ValueError(f"train_share + valid_share = {self.train_share + self.valid_share:g} exceed 1")
        return self


def documents_of(recipe_text: str) -> DocumentKind:
    """How the recipe, given as text, cuts its files; ``files`` if it does not say."""
    try:
        said = tomllib.loads(recipe_text).get("data", {}).get("documents", "files")
    except tomllib.TOMLDecodeError:
        said = "files"
    return "paragraphs" if said == "paragraphs" else "files"


class LanguageModelRecipe(BaseRecipe):
    """A decoder-only model of running text, trained on windows of ``training.max_tokens`` tokens."""

    task: Literal["language-model"]
    data: TextSection

    def config(self, vocabulary: int, **inherited: Any) -> DecoderConfig:
        """The model's shape."""
        return DecoderConfig.model_validate({**inherited, **self.model, "vocabulary": vocabulary})
