"""The seven steps of attention, each with numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dragoman_model.attention import (
    AdditiveSimilarity,
    Attention,
    MultiHeadAttention,
    adjacency_mask,
    attend,
    causal_mask,
    dot_product,
    join_masks,
    masked_softmax,
    padding_mask,
    scaled_dot_product,
    window_mask,
)

WORDS = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)


def close(actual: Tensor, expected: list[float] | list[list[float]], tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=tolerance, rtol=0)


def test_step_1_additive_attention_of_one_query() -> None:
    similarity = AdditiveSimilarity(query_dim=2, key_dim=2, hidden_dim=2)
    with torch.no_grad():
        similarity.query.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        similarity.key.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        similarity.energy.weight.copy_(torch.tensor([[1.0, 2.0]]))
    query, keys = torch.tensor([[0.5, -0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # key 1: tanh(0.5 + 0), tanh(-0.5 + 1) -> 0.4621 + 2 * 0.4621; key 2: tanh(1.5), tanh(-0.5) -> 0.9051 - 2 * 0.4621
    scores = similarity(query, keys)
    close(scores, [[1.3864, -0.0191]])
    context, weights = attend(query, keys, torch.tensor([[1.0], [3.0]]), similarity=similarity)
    # softmax of a difference of 1.4055: 1 / (1 + e^-1.4055) = 0.8030
    close(weights, [[0.8030, 0.1970]])
    close(context, [[0.8030 * 1 + 0.1970 * 3]], 1e-3)


def test_step_2_dot_product_of_the_second_word() -> None:
    scores = dot_product(WORDS[1:2], WORDS)
    close(scores[0], [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])
    context, weights = attend(WORDS[1:2], WORDS, WORDS, similarity=dot_product)
    close(weights[0], [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
    close(context[0], [0.4419, 0.6515, 0.5683])


def test_step_3_scaling_divides_by_the_square_root_of_the_dimension() -> None:
    scores = scaled_dot_product(WORDS[1:2], WORDS)
    close(scores[0, :2], [0.9544 / math.sqrt(3), 1.4950 / math.sqrt(3)])


def test_step_3_scaled_scores_of_random_vectors_have_variance_one_whatever_the_dimension() -> None:
    generator = torch.Generator().manual_seed(3)
    for dimension in (4, 64, 512):
        queries = torch.randn(200, dimension, generator=generator)
        keys = torch.randn(200, dimension, generator=generator)
        assert float(scaled_dot_product(queries, keys).var()) == pytest.approx(1.0, abs=0.1)


def test_step_4_many_queries_give_what_each_gives_alone() -> None:
    together, weights = attend(WORDS, WORDS, WORDS, similarity=dot_product)
    for i in range(6):
        torch.testing.assert_close(
            together[i : i + 1], attend(WORDS[i : i + 1], WORDS, WORDS, similarity=dot_product)[0]
        )
    torch.testing.assert_close(weights.sum(-1), torch.ones(6))


def test_step_5_projections_of_the_input() -> None:
    layer = Attention(d_model=2, d_head=2)
    with torch.no_grad():
        for projection in (layer.query, layer.key, layer.value):
            projection.bias.zero_()
        layer.query.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        layer.key.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
        layer.value.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    context, weights = layer(x)
    # scores of the first query: 2 / sqrt(2) and 0 -> softmax 0.8044, 0.1956; its values are the inputs, swapped
    close(weights[0], [[0.8044, 0.1956], [0.1956, 0.8044]])
    close(context[0], [[0.1956, 0.8044], [0.8044, 0.1956]])


def test_step_6_cross_attention_takes_keys_and_values_from_the_memory() -> None:
    torch.manual_seed(0)
    layer = Attention(d_model=4, d_head=3)
    x, memory = torch.randn(2, 5, 4), torch.randn(2, 7, 4)
    context, weights = layer(x, memory)
    assert context.shape == (2, 5, 3)
    assert weights.shape == (2, 5, 7)
    expected = attend(layer.query(x), layer.key(memory), layer.value(memory))[0]
    torch.testing.assert_close(context, expected)


@pytest.mark.parametrize("cross", [False, True])
def test_step_7_heads_are_single_heads_on_slices_of_the_projections(cross: bool) -> None:
    torch.manual_seed(1)
    layer = MultiHeadAttention(8, 2, cross=cross)
    x, memory = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    if cross:
        queries = layer.query(x)
        keys, values = layer.key_value(memory).chunk(2, dim=-1)
        projected = layer.project_memory(memory)
        out, weights = layer(x, projected), layer.weights(x, projected)
    else:
        queries, keys, values = layer.query_key_value(x).chunk(3, dim=-1)
        out, weights = layer(x), layer.weights(x)
    heads = [attend(queries[..., i : i + 4], keys[..., i : i + 4], values[..., i : i + 4]) for i in (0, 4)]
    torch.testing.assert_close(out, layer.output(torch.cat([context for context, _ in heads], dim=-1)))
    torch.testing.assert_close(weights, torch.stack([w for _, w in heads], dim=1))


def test_a_model_dimension_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="d_model = 10 is not a multiple of num_heads = 4"):
        MultiHeadAttention(10, 4)


def test_masked_keys_get_exactly_zero_and_the_others_sum_to_one() -> None:
    mask = torch.tensor([[True, False, True], [False, True, False]])
    weights = masked_softmax(torch.tensor([[1.0, 9.0, 1.0], [0.0, 0.0, 50.0]]), mask)
    close(weights, [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], 0.0)


def test_a_query_whose_keys_are_all_masked_gives_zeros_and_a_finite_gradient() -> None:
    queries = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[False] * 6, [True] * 6])
    context, weights = attend(queries, WORDS, WORDS, mask=mask)
    assert torch.equal(weights[0], torch.zeros(6))
    assert torch.equal(context[0], torch.zeros(3))
    context.sum().backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()
    assert torch.equal(queries.grad[0], torch.zeros(3))


def test_padding_mask() -> None:
    assert padding_mask(torch.tensor([3, 1]), 3)[:, 0, 0].tolist() == [[True, True, True], [True, False, False]]


def test_causal_mask() -> None:
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_window_mask_sees_only_near_positions() -> None:
    assert window_mask(4, before=1, after=0).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]
    assert torch.equal(window_mask(5, before=5, after=0), causal_mask(5))


def test_adjacency_mask_is_attention_on_a_graph() -> None:
    mask = adjacency_mask([(0, 2), (2, 1)], 3)
    assert mask.tolist() == [[True, False, True], [False, True, False], [False, True, True]]
    assert adjacency_mask([(0, 1)], 2, self_loops=False).tolist() == [[False, True], [False, False]]
    weights = attend(WORDS[:3], WORDS[:3], WORDS[:3], mask=mask)[1]
    assert float(weights[1, 1]) == 1.0
    assert float(weights[0, 1]) == 0.0


def test_joined_masks_let_through_what_each_lets_through() -> None:
    joined = join_masks(causal_mask(3), None, window_mask(3, before=0, after=2))
    assert joined is not None
    assert torch.equal(joined, torch.eye(3, dtype=torch.bool))
    assert join_masks(None, None) is None


def test_causal_argument_equals_the_causal_mask() -> None:
    torch.manual_seed(2)
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x, causal=True), layer(x, mask=causal_mask(5)))
    padded = padding_mask(torch.tensor([5, 3]), 5)
    torch.testing.assert_close(layer(x, mask=padded, causal=True), layer(x, mask=padded & causal_mask(5)))
