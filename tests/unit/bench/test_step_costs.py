"""Bytes and operations of a decoder step, by hand and by their laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_model.config import Config
from dragoman_model.transformer import Transformer
from tests.bench.step_costs import Ceilings, Sizes, decoder_step, least_seconds, linear_weights

SMALL = Sizes(vocabulary=10, d_model=4, d_ff=8, layers=2, cache_bytes=4)


def test_by_hand() -> None:
    # A layer: 6 x 16 + 2 x 4 x 8 = 160; two of them and 10 x 4 for the output.
    assert linear_weights(SMALL) == 360
    step = decoder_step(SMALL, rows=3, target_length=5, source_length=6)
    assert step.weight_bytes == 360
    assert step.linear_operations == 2 * 3 * 360
    assert step.cache_bytes == 3 * 2 * 2 * 4 * (5 + 6 + 1) * 4
    assert step.attention_operations == 3 * 4 * 2 * 4 * (5 + 6)
    assert step.bytes == 360 + step.cache_bytes + 3 * 10 * 8


def test_the_weights_are_those_of_the_model() -> None:
    model = Transformer(Config(vocabulary=10, d_model=4, num_heads=2, d_ff=8, encoder_layers=1, decoder_layers=2))
    of_layers = sum(p.numel() for n, p in model.decoder.named_parameters() if p.dim() == 2)
    memory = sum(layer.cross_attention.key_value.weight.numel() for layer in model.decoder_layers)
    assert linear_weights(SMALL) == of_layers - memory + model.embedding.weight.numel()


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 100))
def test_rows_share_the_weights_and_nothing_else(rows: int, target: int, source: int) -> None:
    one = decoder_step(SMALL, rows=1, target_length=target, source_length=source)
    many = decoder_step(SMALL, rows=rows, target_length=target, source_length=source)
    assert many.weight_bytes == one.weight_bytes
    assert many.bytes - many.weight_bytes == rows * (one.bytes - one.weight_bytes)
    assert many.linear_operations == rows * one.linear_operations


def test_int8_caches_are_a_quarter() -> None:

    whole = decoder_step(SMALL, rows=2, target_length=3.0, source_length=4.0).cache_bytes
    quarter = decoder_step(replace(SMALL, cache_bytes=1), rows=2, target_length=3.0, source_length=4.0).cache_bytes
    assert quarter * 4 == whole


def test_what_bounds_the_step() -> None:
    step = decoder_step(SMALL, rows=1, target_length=1, source_length=1)
    fast_memory = Ceilings(720.0, 64.0, bandwidth=1e9, cache_bandwidth=2e9, cache_bytes=0)
    for ceilings, expected, name in (
        (fast_memory, 1.0 + 1.0, "operations"),
        (slow_memory := replace(fast_memory, bandwidth=step.bytes / 7), 7.0, "memory"),
        (replace(slow_memory, cache_bytes=step.bytes, cache_bandwidth=step.bytes / 3), 3.0, "cache"),
    ):
        seconds, bound = least_seconds(step, ceilings)
        assert seconds == pytest.approx(expected)
        assert bound == name


@pytest.mark.parametrize("field", ["rows", "target_length", "source_length"])
def test_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1 each"):
        decoder_step(SMALL, **({"rows": 1, "target_length": 1, "source_length": 1} | {field: 0}))
