"""``dragoman evaluate``: how well a bundle, or the checkpoint of a model, translates, and how fast."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dragoman_export import reference
from dragoman_export.bundle_writer import describe
from dragoman_export.probes import PARITY_FILE, read_record
from dragoman_export.sentences import Direction, ParallelText, recipe_facts
from dragoman_export.serving import ServedGraphs, SourceReader
from dragoman_model.checkpoint import TrainedModel, load_model
from dragoman_model.data import DataError
from dragoman_model.metrics import Scores, translation_scores
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Bundle, Limits
from dragoman_server.bundle import MANIFEST, load_bundle
from dragoman_server.progress import Stages


class EvaluationError(Exception):
    """The model cannot be evaluated in the way asked for."""


@dataclass(frozen=True)
class Evaluation:
    """One direction of a data set."""

    direction: Direction
    scores: Scores
    sentences: int
    tokens: int
    """Target tokens produced, end-of-sentence included."""
    seconds: float
    shortened: int
    """Sentences that were cut to the longest source."""

    @property
    def sentences_per_second(self) -> float:
        """Decoding alone; tokenising and scoring are not counted."""
        return self.sentences / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Target tokens; decoding alone."""
        return self.tokens / self.seconds


class Translator(AbstractContextManager["Translator"], ABC):
    """Something that decodes greedily or by beam search; a context manager."""

    manifest: Bundle
    reader: SourceReader
    columns: tuple[str, str] | None
    """What its training or test data had in its columns, where that is known."""

    @abstractmethod
    def translate(self, sources: Sequence[Sequence[int]], stages: Stages, name: str) -> list[list[int]]:
        """Target ids, end-of-sentence left out."""

    def check(self, directions: Sequence[Direction]) -> None:
        """EvaluationError for a language that the model does not have."""
        codes = [language.code for language in self.manifest.languages]
        unknown = sorted({code for direction in directions for code in direction if code not in codes})
        if unknown:
            raise EvaluationError(f"languages {', '.join(unknown)}: the model has {', '.join(codes)}")


class BundleTranslator(Translator):
    """A bundle, decoded by the serving engine on all usable cores."""

    def __init__(self, path: Path, precision: str) -> None:
        loaded = load_bundle(path, precision)
        self.manifest = loaded.manifest
        self.reader = SourceReader(loaded.tokenizer, loaded.manifest)
        self.columns = read_record(path).columns if (path / PARITY_FILE).is_file() else None
        self._served = ServedGraphs(loaded.encoder, loaded.decoder, loaded.manifest)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._served)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def translate(self, sources: Sequence[Sequence[int]], stages: Stages, name: str) -> list[list[int]]:
        """Greedy, by the engine."""
        with stages.stage(name, total=len(sources)) as advance:
            return self._served.translate(sources, max_length=self.manifest.limits.target_tokens, advance=advance)


class CheckpointTranslator(Translator):
    """A model in PyTorch."""

    def __init__(self, path: Path, beam_size: int) -> None:
        self._trained: TrainedModel[Transformer] = load_model(path, Transformer)
        facts = recipe_facts(self._trained.provenance)
        longest = self._trained.model.config.max_length
        learnt = min(facts.max_tokens or longest, longest)
        limits = Limits(source_tokens=learnt, target_tokens=learnt)
        self.manifest = describe(self._trained, name=self._trained.provenance.name, limits=limits)
        self.reader = SourceReader(self._trained.tokenizer, self.manifest)
        self.columns = facts.columns
        self._beam_size = beam_size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def translate(self, sources: Sequence[Sequence[int]], stages: Stages, name: str) -> list[list[int]]:
        """With the beam asked for."""
        with stages.stage(name, total=len(sources)) as advance:
            return reference.translate(
                self._trained.model,
                sources,
                max_length=self.manifest.limits.target_tokens,
                beam_size=self._beam_size,
                advance=advance,
            )


def open_translator(path: Path, *, precision: str | None, beam_size: int) -> Translator:
    """A bundle or a checkpoint, by what the folder holds."""
    if (path / MANIFEST).is_file():
        if beam_size != 1:
            raise EvaluationError(f"beam_size = {beam_size}: a bundle is decoded greedily; a checkpoint takes a beam")
        return BundleTranslator(path, precision or "int8")
    if precision is not None:
        raise EvaluationError(f"precision = {precision}: only a bundle has precisions, and {path} is none")
    return CheckpointTranslator(path, beam_size)


def columns_for(translator: Translator, given: tuple[str, str] | None) -> tuple[str, str]:
    """What was given, or else what the model knows. DataError where neither says."""
    columns = given or translator.columns
    if columns is None:
        raise DataError("the model does not say which languages the columns hold: --columns does, as in en,de")
    return columns


def evaluate(
    translator: Translator,
    text: ParallelText,
    directions: Sequence[Direction],
    *,
    group_references: bool,
    stages: Stages,
) -> list[Evaluation]:
    """Translate and score each direction; the translator must have been entered."""
    translator.check(directions)
    results = []
    for direction in directions:
        sentences = text.sentences(direction, group_references=group_references)
        before = translator.reader.shortened
        sources = translator.reader.encode_all(sentences.sources, direction.target)
        began = time.perf_counter()
        outputs = translator.translate(sources, stages, str(direction))
        seconds = time.perf_counter() - began
        results.append(
            Evaluation(
                direction=direction,
                scores=translation_scores(translator.reader.decode(outputs), sentences.references),
                sentences=len(sources),
                tokens=sum(len(ids) + 1 for ids in outputs),
                seconds=seconds,
                shortened=translator.reader.shortened - before,
            )
        )
    return results
