"""What a language model loses when its attention is cut to a window.

    python -m tests.figures.window_loss CHECKPOINT TEXT

The model was trained with full attention; here every layer sees only the last tokens, as a truncated cache would
have it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

from dragoman_model.attention import window_mask
from dragoman_model.checkpoint import load_model
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_evaluation import score_documents
from dragoman_model.text_files import read_texts
from dragoman_model.tokenizer import encode_documents
from tests.bench.charts import COLOURS
from tests.figures.drawing import keep_figures, keep_picture, panels, tidy

_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
_CHARACTERS = 40_000
"""So many of the text's last ones are scored: they are held out of the training."""


class WindowedLanguageModel(LanguageModel):
    """The same model, each layer of which sees ``window`` tokens, its own among them."""

    window = 1

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, time, vocabulary) of ids (batch, time)."""
        return self.logits(self.states(ids, window_mask(ids.shape[1], self.window - 1, 0)))


def main() -> None:
    """Score with each window and draw."""
    checkpoint, text = map(Path, sys.argv[1:3])
    trained = load_model(checkpoint, LanguageModel)
    model = WindowedLanguageModel(trained.model.config).eval()
    model.load_state_dict(trained.model.state_dict())
    (ids,) = encode_documents(trained.tokenizer, [read_texts([text])[0][-_CHARACTERS:]], ends=False)
    found = []
    for window in (*_WINDOWS, model.config.max_length):
        model.window = window
        nats = score_documents(model, [ids]).nats / _CHARACTERS
        found.append({"window": window, "nats_per_character": round(nats, 4)})
        print(found[-1])
    facts = {
        "layers": model.config.decoder_layers,
        "updates": trained.provenance.updates,
        "characters_per_token": round(_CHARACTERS / len(ids), 2),
    }
    keep_figures({**facts, "measured": found}, "window_loss")
    figure, (axes,) = panels(1, width=6.0)
    windows = [point["window"] for point in found]
    axes.plot(windows, [p["nats_per_character"] for p in found], color=COLOURS[0], marker="o", ms=4)
    tidy(axes, title="Loss with the window cut", x="tokens that each layer sees", y="nats per character")
    axes.set_xscale("log", base=2)
    keep_picture(figure, "window_loss")


if __name__ == "__main__":
    main()
