"""Their side: CTranslate2 in int8, in whichever of its settings is the fastest for the work at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ctranslate2

from tests.bench.ours import Decoded
from tests.bench.random_base import LONGEST
from tests.bench.rounds import REST_SECONDS, quiet


@dataclass(frozen=True)
class TheirSettings:
    """Workers x threads of each, and how sentences are grouped (they are sorted by length before)."""

    inter_threads: int
    intra_threads: int
    batch_type: str = "examples"
    max_batch_size: int = 0
    """Sentences or tokens; 0: what is handed over at once is one batch."""

    def text(self) -> str:
        """For a table."""
        batch = f", {self.max_batch_size} {self.batch_type}" if self.max_batch_size else ""
        return f"{self.inter_threads} x {self.intra_threads}{batch}"


FEW = 192
"""Sentences that all settings are compared with."""
FINALISTS, FINAL_TRIES = 4, 3
"""The best of them, and how often each is tried on all sentences."""
BATCHES = tuple(
    (kind, size)
    for kind, sizes in (("examples", (16, 32, 64, 128)), ("tokens", (512, 1024, 2048, 4096)))
    for size in sizes
)


def thread_choices(cores: int) -> list[tuple[int, int]]:
    """Workers and threads of each that use all cores: many of one, or one of many."""
    return list(dict.fromkeys([(cores, 1), (1, cores)]))


class Theirs:
    """Translators over one model, made when a setting first asks for one; idle ones hold no core."""

    def __init__(self, folder: Path, *, compute_type: str = "int8") -> None:
        self._folder, self._compute_type = folder, compute_type
        self._translators: dict[tuple[int, int], Any] = {}

    def facts(self, settings: TheirSettings) -> dict[str, Any]:
        """For the JSON."""
        translator = self._translator(settings)
        return {**asdict(settings), "compute_type": translator.compute_type}

    def forget(self, keep: Iterable[TheirSettings] = ()) -> None:
        """Let go of the translators that no setting in ``keep`` uses."""
        wanted = {(settings.inter_threads, settings.intra_threads) for settings in keep}
        self._translators = {key: value for key, value in self._translators.items() if key in wanted}

    def decode(self, written: Sequence[Sequence[str]], settings: TheirSettings, *, beam: int) -> Decoded:
        """Translate all at once; sources are written as ``ctranslate2_model.tokens`` does it."""
        translator = self._translator(settings)
        began, cpu_began = time.perf_counter(), time.process_time()
        results = translator.translate_batch(
            written,
            beam_size=beam,
            max_batch_size=settings.max_batch_size,
            batch_type=settings.batch_type,
            max_decoding_length=LONGEST,
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        outputs = [[int(token) for token in result.hypotheses[0]] for result in results]
        return Decoded(outputs, seconds, cpu)

    def latencies(self, written: Sequence[Sequence[str]], settings: TheirSettings, *, beam: int) -> list[float]:
        """Seconds of each sentence, one after the other."""
        translator = self._translator(settings)
        found = []
        for source in written:
            began = time.perf_counter()
            translator.translate_batch([source], beam_size=beam, max_decoding_length=LONGEST)
            found.append(time.perf_counter() - began)
        return found

    def fastest(
        self, written: Sequence[Sequence[str]], settings: Iterable[TheirSettings], *, beam: int, repeats: int = 1
    ) -> tuple[TheirSettings, dict[str, float]]:
        """The setting with the best tokens/s, and that of every setting.

        Each is tried on the first few sentences; the best of them again, on all, since with few the last batch counts
        too much. Of the latter counts the best of ``FINAL_TRIES``.
        """
        choices = list(settings)
        self.decode(written[:16], choices[0], beam=beam)
        tried = self._speeds(written[:FEW], choices, beam=beam, repeats=repeats)
        finalists = sorted(tried, key=lambda choice: -tried[choice])[:FINALISTS]
        again = self._speeds(written, finalists, beam=beam, repeats=FINAL_TRIES)
        best = max(again, key=lambda choice: again[choice])
        return best, {choice.text(): round(speed, 1) for choice, speed in (tried | again).items()}

    def _speeds(
        self, written: Sequence[Sequence[str]], choices: Iterable[TheirSettings], *, beam: int, repeats: int
    ) -> dict[TheirSettings, float]:
        """Tokens/s of each choice: the best of its tries, which take turns."""
        tried: dict[TheirSettings, float] = {}
        for choice in [choice for _ in range(repeats) for choice in choices]:
            time.sleep(REST_SECONDS)
            with quiet():
                speed = self.decode(written, choice, beam=beam).tokens_per_second
            tried[choice] = max(tried.get(choice, 0.0), speed)
        return tried

    def _translator(self, settings: TheirSettings) -> Any:
        key = (settings.inter_threads, settings.intra_threads)
        if key not in self._translators:
            self._translators[key] = ctranslate2.Translator(
                os.fspath(self._folder),
                device="cpu",
                compute_type=self._compute_type,
                inter_threads=settings.inter_threads,
                intra_threads=settings.intra_threads,
            )
        return self._translators[key]
