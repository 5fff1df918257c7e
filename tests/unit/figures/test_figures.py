"""What the pictures of docs/attention.md rest on."""

from __future__ import annotations

import pytest
import torch

from dragoman_model.attention import window_mask
from dragoman_model.config import DecoderConfig
from dragoman_model.data import Pair
from dragoman_model.language_model import LanguageModel
from tests.figures.bleu_by_length import join, measure, words
from tests.figures.history import cross_weights
from tests.figures.softmax_scale import gradient_norm
from tests.figures.window_loss import WindowedLanguageModel
from tests.unit.model.small import small_model

PAIRS = [Pair("a b", "c d e"), Pair("f", "g"), Pair("h i j", "k l"), Pair("m", "n o")]


def test_joined_texts_take_each_sentence_once_and_in_order() -> None:
    assert join(PAIRS, 1) == PAIRS
    assert join(PAIRS, 3) == [Pair("a b f h i j", "c d e g k l")]
    assert [words(pair) for pair in join(PAIRS, 2)] == [4, 4]


def test_a_perfect_translator_scores_100_whatever_the_length() -> None:
    pairs = [Pair(f"sentence {i} has words enough", f"{i} " + "wort " * (i % 18)) for i in range(72)]
    english = {pair.second: pair.first for count in (1, 2, 4) for pair in join(pairs, count)}
    found = measure(pairs, lambda texts: [english[text] for text in texts])
    scored = [found["all"], *found["by_length"], *found["joined"]]
    assert [part["bleu"] for part in scored] == pytest.approx([100.0] * len(scored))
    assert sum(part["sentences"] for part in found["by_length"]) == len(pairs)


@torch.no_grad()
def test_cross_weights_are_those_of_the_layers_inputs() -> None:
    model = small_model()
    source, target = torch.tensor([[4, 5, 6, 7, 3]]), torch.tensor([[2, 8, 9]])
    weights = cross_weights(model, source, target)
    assert weights.shape == (2, 1, 2, 3, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 2, 3))
    # The past decides: a later target changes no earlier row.
    other = cross_weights(model, source, torch.tensor([[2, 8, 30]]))
    torch.testing.assert_close(weights[..., :2, :], other[..., :2, :])


def test_the_gradients_norm_by_hand() -> None:
    # diag(w) - w w^T of (1/2, 1/2) is +-1/4 everywhere.
    assert float(gradient_norm(torch.tensor([0.5, 0.5]))) == pytest.approx(0.5)
    assert float(gradient_norm(torch.tensor([1.0, 0.0]))) == 0.0


@torch.no_grad()
def test_a_window_as_long_as_the_text_is_the_model_itself() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(vocabulary=30, d_model=16, num_heads=2, d_ff=32, decoder_layers=2, max_length=12)
    model, cut = LanguageModel(config).eval(), WindowedLanguageModel(config).eval()
    cut.load_state_dict(model.state_dict())
    ids = torch.arange(4, 14)[None]
    cut.window = 10
    torch.testing.assert_close(cut(ids), model(ids))
    cut.window = 3
    torch.testing.assert_close(cut(ids), model.logits(model.states(ids, window_mask(10, 2, 0))))
    assert not torch.allclose(cut(ids), model(ids))
