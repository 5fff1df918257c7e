"""BLEU by the length of the source, for the models of recipes history-*.toml.

    python -m tests.figures.bleu_by_length RUNS TEST.tsv.gz

RUNS holds the folders history-gru, history-gru-attention and history-transformer that ``dragoman train`` wrote; the
test file has English in its first column and German in its second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU

from dragoman_model.data import Pair, read_pairs
from tests.bench.charts import COLOURS
from tests.figures.drawing import keep_figures, keep_picture, panels, tidy
from tests.figures.history import load_history, translate

BUCKETS = ((1, 4), (5, 6), (7, 8), (9, 11), (12, 15), (16, 99))
JOINED = (1, 2, 4)
_RESAMPLES = 500


def join(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Texts of ``count`` sentences that follow each other in the file; a rest is left out."""
    groups = [pairs[i : i + count] for i in range(0, len(pairs) - count + 1, count)]
    return [Pair(" ".join(p.first for p in group), " ".join(p.second for p in group)) for group in groups]


def score(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """BLEU, half of its 95% interval by resampling sentences (Koehn 2004), and the brevity penalty."""
    bleu = BLEU()
    resampled = bleu.corpus_score(hypotheses, [references], n_bootstrap=_RESAMPLES)
    facts = json.loads(resampled.format(width=2, is_json=True, signature=str(bleu.get_signature())))
    plain = bleu.corpus_score(hypotheses, [references])
    interval = facts.get("confidence_var", 0.0)  # said only where resampling changes anything
    return {"bleu": round(plain.score, 2), "interval": interval, "brevity_penalty": round(plain.bp, 3)}


def signature() -> str:
    """What makes the scores comparable with those of others."""
    bleu = BLEU()
    # Before it has seen references it does not know how many there are.
    bleu.corpus_score(["a text"], [["a text"]])
    return str(bleu.get_signature())


def words(pair: Pair) -> int:
    """Length of the source."""
    return len(pair.second.split())


def measure(pairs: list[Pair], translator: Callable[[Sequence[str]], list[str]]) -> dict[str, Any]:
    """Of one model: BLEU of all, by words, and of texts of several sentences."""
    hypotheses = translator([pair.second for pair in pairs])
    by_length = []
    for low, high in BUCKETS:
        chosen = [i for i, pair in enumerate(pairs) if low <= words(pair) <= high]
        scored = score([hypotheses[i] for i in chosen], [pairs[i].first for i in chosen])
        by_length.append({"words": [low, high], "sentences": len(chosen), **scored})
    joined = []
    for count in JOINED:
        texts = join(pairs, count)
        found = hypotheses if count == 1 else translator([text.second for text in texts])
        mean = sum(map(words, texts)) / len(texts)
        scored = score(found, [text.first for text in texts])
        joined.append({"sentences_joined": count, "texts": len(texts), "mean_words": round(mean, 1), **scored})
    return {"all": score(hypotheses, [p.first for p in pairs]), "by_length": by_length, "joined": joined}


def main() -> None:
    """Translate, score, draw."""
    runs, test = map(Path, sys.argv[1:3])
    pairs, _ = read_pairs(test)
    found = {}
    for name, trained in load_history(runs).items():
        found[name] = {
            "parameters": trained.model.parameter_count,
            "updates": trained.provenance.updates,
            **measure(pairs, lambda texts, trained=trained: translate(trained, texts)),  # type: ignore[misc]
        }
        print(json.dumps({name: found[name]}))
    keep_figures({"signature": signature(), "measured": found}, "bleu_by_length")
    draw(found)


def draw(found: dict[str, Any]) -> None:
    """Single sentences on the left, joined ones on the right; bars are 95% intervals."""
    figure, (left, right) = panels(2)
    for colour, marker, (name, figures) in zip(COLOURS, "os^", found.items(), strict=False):
        single, joined = figures["by_length"], figures["joined"]
        for axes, places, points in (
            (left, range(len(single)), single),
            (right, [p["mean_words"] for p in joined], joined),
        ):
            heights, spreads = [p["bleu"] for p in points], [p["interval"] for p in points]
            axes.errorbar(places, heights, yerr=spreads, color=colour, marker=marker, ms=5, label=name, capsize=2)
    points = next(iter(found.values()))["by_length"]
    names = [f"{low}-{high}" if high < 99 else f"{low}+" for low, high in (p["words"] for p in points)]
    left.set_xticks(range(len(points)), [f"{n}\n({p['sentences']})" for n, p in zip(names, points, strict=True)])
    tidy(left, title="Test sentences", x="words of the source (sentences)", y="BLEU")
    tidy(right, title="1, 2 and 4 test sentences joined", x="words of the source (mean)", y="BLEU")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=9)
    keep_picture(figure, "bleu_by_length")


if __name__ == "__main__":
    main()
