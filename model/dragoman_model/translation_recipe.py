"""The recipe of a translation model: which files hold which languages, and which directions are learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dragoman_model.config import BaseConfig, Config, RecurrentConfig
from dragoman_model.recipe import BaseRecipe, DataSection, LanguageSection


class PairsSection(DataSection):
    """Where the sentence pairs are: each split one TSV file, or two parallel ones."""

    train: list[Path] = Field(min_length=1, max_length=2)
    valid: list[Path] = Field(min_length=1, max_length=2)
    test: list[Path] = Field(default_factory=list, max_length=2)
    columns: tuple[str, str]
    """Language codes of the first and second column (or file)."""
    directions: list[tuple[str, str]] = Field(min_length=1)
    """(source, target) language codes to train."""


class TranslationRecipe(BaseRecipe):
    """An encoder-decoder model of sentence pairs; pairs with a side above ``training.max_tokens`` are left out."""

    task: Literal["translation"] = "translation"
    languages: list[LanguageSection] = Field(min_length=1)
    data: PairsSection

    def config(self, vocabulary: int, **inherited: Any) -> BaseConfig:
        """The model's shape; ``architecture`` says what it is made of, and is "transformer" where it is left out."""
        fields = {"architecture": "transformer", **inherited, **self.model, "vocabulary": vocabulary}
        if fields["architecture"] != "transformer":
            return RecurrentConfig.model_validate(fields)
        del fields["architecture"]
        return Config.model_validate(fields)

    @model_validator(mode="after")
    def _languages(self) -> Self:
        codes = [language.code for language in self.languages]
        named = {*self.data.columns, *(code for pair in self.data.directions for code in pair)}
        unknown = sorted(named - set(codes))
        if unknown:
            raise ValueError(f"data names languages {unknown} that are not among languages {codes}")
        for source, target in self.data.directions:
            if {source, target} != set(self.data.columns):
                raise ValueError(f"direction {source}-{target} needs both columns {self.data.columns}")
        return self
