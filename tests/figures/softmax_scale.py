"""Why scores are divided by sqrt(d): the softmax, and its gradient, of random vectors as d grows.

python -m tests.figures.softmax_scale
"""

from __future__ import annotations

import torch
from torch import Tensor

from dragoman_model.attention import Similarity, dot_product, masked_softmax, scaled_dot_product
from tests.bench.charts import COLOURS
from tests.figures.drawing import keep_figures, keep_picture, panels, tidy

_DIMENSIONS = [2**i for i in range(11)]
_KEYS = 16
_DRAWS = 2000
_KINDS: dict[str, Similarity] = {"q . k": dot_product, "q . k / sqrt(d)": scaled_dot_product}


def gradient_norm(weights: Tensor) -> Tensor:
    """Frobenius norm of the softmax's Jacobian diag(w) - w w^T, for weights (..., keys)."""
    jacobian = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    norm: Tensor = torch.linalg.matrix_norm(jacobian)
    return norm


def measure() -> dict[str, list[dict[str, float]]]:
    """For each similarity and dimension: the largest weight and the gradient's norm, over many draws."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
    for d in _DIMENSIONS:
        queries = torch.randn(_DRAWS, 1, d, generator=generator)
        keys = torch.randn(_DRAWS, _KEYS, d, generator=generator)
        for kind, similarity in _KINDS.items():
            weights = masked_softmax(similarity(queries, keys))[:, 0]
            found[kind].append(
                {
                    "d": d,
                    "largest_weight": round(float(weights.max(dim=-1).values.mean()), 4),
                    "gradient_norm": float(f"{float(gradient_norm(weights).mean()):.4g}"),
                    "gradient_norm_median": float(f"{float(gradient_norm(weights).median()):.4g}"),
                }
            )
    return found


def main() -> None:
    """Measure and draw."""
    found = measure()
    figure, (left, right) = panels(2)
    for colour, marker, (kind, points) in zip(COLOURS, "os", found.items(), strict=False):
        d = [point["d"] for point in points]
        left.plot(d, [p["largest_weight"] for p in points], color=colour, marker=marker, ms=4, label=kind)
        right.plot(d, [p["gradient_norm_median"] for p in points], color=colour, marker=marker, ms=4, label=kind)
    tidy(left, title=f"Largest of {_KEYS} weights (mean)", x="d", y="weight")
    tidy(right, title="Gradient of the softmax (median norm)", x="d", y="norm of diag(w) - w w$^T$")
    left.set_ylim(0, 1)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
    right.set_yscale("log")
    left.legend(frameon=False, fontsize=9)
    keep_picture(figure, "softmax_scale")
    keep_figures({"keys": _KEYS, "draws": _DRAWS, "measured": found}, "softmax_scale")


if __name__ == "__main__":
    main()
