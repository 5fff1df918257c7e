"""Translation quality: sacreBLEU with its signature, chrF and WER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import jiwer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


@dataclass(frozen=True)
class Scores:
    """All in percent; WER may exceed 100."""

    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str
    wer: float


def translation_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Corpus scores; ``references`` has one or more references for each hypothesis.

    BLEU and chrF as in sacreBLEU (Post 2018), with its defaults (13a, mixed case). WER is the word error rate against
    the closest reference, over all words of those. ValueError if the numbers differ or a sentence has no reference.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, but references for {len(references)}")
    if not hypotheses or not all(references):
        raise ValueError("every hypothesis needs at least one reference, and there must be one")
    most = max(map(len, references))
    # sacreBLEU takes one stream per reference; None fills a sentence that has fewer.
    streams = cast(list[list[str]], [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)])
    bleu, chrf = BLEU(), CHRF()
    bleu_score = bleu.corpus_score(list(hypotheses), streams)
    chrf_score = chrf.corpus_score(list(hypotheses), streams)
    return Scores(
        bleu=bleu_score.score,
        bleu_signature=str(bleu.get_signature()),
        chrf=chrf_score.score,
        chrf_signature=str(chrf.get_signature()),
        wer=_word_error_rate(hypotheses, references),
    )


def _word_error_rate(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    errors = words = 0
    for hypothesis, choices in zip(hypotheses, references, strict=True):
        counted = [jiwer.process_words(reference, hypothesis) for reference in choices]
        best = min(counted, key=lambda m: m.substitutions + m.deletions + m.insertions)
        errors += best.substitutions + best.deletions + best.insertions
        words += best.hits + best.substitutions + best.deletions
    return 100.0 * errors / words
