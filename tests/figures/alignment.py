"""What the models of recipes history-*.toml look at while they translate a sentence of our own.

python -m tests.figures.alignment RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.figures.drawing import heatmap, keep_picture, panels
from tests.figures.history import align, load_history

SENTENCE = "Wenn es morgen regnet, werden wir den ganzen Tag zu Hause bleiben."


def main() -> None:
    """The recurrent model beside the Transformer's heads, and then each head of its last layer."""
    models = load_history(Path(sys.argv[1]))
    recurrent, transformer = align(models["GRU with attention"], SENTENCE), align(models["Transformer"], SENTENCE)
    figure, (left, right) = panels(2, height=4.6)
    heatmap(left, recurrent.weights[0, 0], recurrent.target, recurrent.source, "GRU with attention")
    mean = transformer.weights.mean(dim=(0, 1))
    heatmap(right, mean, transformer.target, transformer.source, "Transformer: mean of all layers and heads")
    keep_picture(figure, "alignment")
    heads = transformer.weights[-1]
    figure, axes = panels(len(heads), width=3.4, height=4.2, sharey=True)
    for number, (place, weights) in enumerate(zip(axes, heads, strict=True)):
        heatmap(place, weights, transformer.target, transformer.source, f"last layer, head {number + 1}")
    keep_picture(figure, "alignment_heads")


if __name__ == "__main__":
    main()
