"""Properties of the whole model: what may see what, and that all its ways of computing agree."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from dragoman_model.config import Config
from dragoman_model.layers import Dropout
from dragoman_model.positions import Positions, sinusoids
from tests.unit.model.small import small_config, small_model

KINDS = [
    {"norm": "pre", "activation": "relu", "positions": "sinusoidal"},
    {"norm": "post", "activation": "gelu", "positions": "learned"},
]


def test_sinusoids_by_hand() -> None:
    table = sinusoids(3, 4)
    assert table[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    expected = [math.sin(2), math.cos(2), math.sin(2 / 100), math.cos(2 / 100)]
    torch.testing.assert_close(table[2], torch.tensor(expected))


def test_positions_share_an_interface_and_refuse_what_is_too_long() -> None:
    fixed, learned = Positions("sinusoidal", 6, 4), Positions("learned", 6, 4)
    assert fixed(3).shape == learned(3).shape == (3, 4)
    assert [p.shape for p in learned.parameters()] == [(6, 4)]
    assert not list(fixed.parameters())
    with pytest.raises(ValueError, match="time = 7 is longer than max_length = 6"):
        fixed(7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_target_does_not_change_an_earlier_state(kind: dict[str, object]) -> None:
    model = small_model(**kind)
    source = torch.tensor([[4, 5, 6, 3]])
    first = model(source, None, torch.tensor([[2, 7, 8, 9]]))
    second = model(source, None, torch.tensor([[2, 7, 30, 31]]))
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2:], second[:, 2:])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: dict[str, object]) -> None:
    model = small_model(**kind)
    target = torch.tensor([[2, 7, 8]])
    alone = model(torch.tensor([[4, 5, 3]]), None, target)
    padded = model(torch.tensor([[4, 5, 3, 0, 0], [9, 9, 9, 9, 3]]), torch.tensor([3, 5]), target.expand(2, -1))
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=1e-5)


def test_embedding_and_output_are_one_matrix() -> None:
    model = small_model()
    names = [name for name, p in model.named_parameters() if model.config.vocabulary in p.shape]
    assert names == ["embedding.weight"]
    states = torch.randn(2, 16)
    torch.testing.assert_close(model.logits(states), states @ model.embedding.weight.T)


def test_norm_placement_decides_about_the_final_norm() -> None:
    assert isinstance(small_model(norm="pre").decoder_norm, torch.nn.LayerNorm)
    assert isinstance(small_model(norm="post").decoder_norm, torch.nn.Identity)


def test_dropout_shared_over_time_drops_the_same_features_of_every_token() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.5, shared_over_time=True)(torch.ones(4, 5, 64))
    assert torch.equal(dropped, dropped[:, :1].expand(-1, 5, -1))
    assert not torch.equal(dropped[0], dropped[1])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.2)
    apart = Dropout(0.5, shared_over_time=False)(torch.ones(4, 5, 64))
    assert not torch.equal(apart, apart[:, :1].expand(-1, 5, -1))
    still = Dropout(0.5, shared_over_time=True).eval()
    assert torch.equal(still(torch.ones(1, 2, 3)), torch.ones(1, 2, 3))


def test_a_faulty_config_names_every_fault() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"vocabulary": 2, "d_ff": 0, "heads": 8})
    assert {e["loc"][0] for e in caught.value.errors()} == {"vocabulary", "d_ff", "heads"}
    with pytest.raises(ValidationError, match="d_model = 16 must be a multiple of num_heads = 3"):
        small_config(num_heads=3)
    with pytest.raises(ValidationError, match="must differ"):
        small_config(eos_id=2)
    with pytest.raises(ValidationError, match="frozen"):
        small_config().d_model = 8
