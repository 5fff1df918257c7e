"""Sinusoidal positions as a picture, and how near two of them are by their distance.

python -m tests.figures.position_waves
"""

from __future__ import annotations

from dragoman_model.positions import sinusoids
from tests.bench.charts import COLOURS
from tests.figures.drawing import keep_picture, panels, tidy

_LENGTH, _D = 100, 64


def main() -> None:
    """Draw."""
    table = sinusoids(_LENGTH, _D)
    figure, (left, right) = panels(2, width=5.6)
    shown = left.imshow(table.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    left.set_title(f"PE(pos, i), d = {_D}", loc="left", fontsize=10)
    left.set(xlabel="feature i", ylabel="position")
    figure.colorbar(shown, ax=left, fraction=0.05)
    products = table @ table.T
    for colour, position in zip(COLOURS, (10, 50, 90), strict=False):
        right.plot(products[position].numpy(), color=colour, label=f"position {position}")
    tidy(right, title="PE(pos) . PE(other)", x="other position", y="dot product")
    right.set_ylim(top=36)
    right.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")
    keep_picture(figure, "positions")


if __name__ == "__main__":
    main()
