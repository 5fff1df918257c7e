"""Decoding: cached equals uncached, a batch equals each alone, and the beam equals a brute-force one."""

from __future__ import annotations

import itertools

import pytest
import torch

from dragoman_model.search import start_cache, step, translate_ids
from dragoman_model.transformer import Transformer
from tests.unit.model.small import small_model

SOURCES = [[4, 9, 3], [5, 11, 12, 13, 3], [4, 3], [5, 30, 31, 32, 33, 34, 3], [4, 20, 21, 3]]
KINDS = [{}, {"norm": "post", "activation": "gelu", "positions": "learned"}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_step_equals_the_whole_forward_pass(kind: dict[str, object]) -> None:
    model = small_model(**kind)
    source, lengths = torch.tensor([[4, 9, 3, 0], [5, 11, 12, 3]]), torch.tensor([3, 4])
    target = torch.tensor([[2, 7, 8, 9, 10], [2, 20, 21, 22, 23]])
    with torch.no_grad():
        whole = model.logits(model(source, lengths, target))
        cache = start_cache(model, source, lengths)
        for time in range(target.shape[1]):
            torch.testing.assert_close(step(model, target[:, time], cache), whole[:, time], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_decodes_as_each_does_alone(beam_size: int) -> None:
    model = small_model(3)
    together = translate_ids(model, SOURCES, beam_size=beam_size, max_length=10)
    for source, ids in zip(SOURCES, together, strict=True):
        assert translate_ids(model, [source], beam_size=beam_size, max_length=10, batch_tokens=1) == [ids]
    assert max(map(len, together)) <= 10


def test_greedy_takes_the_best_token_each_time() -> None:
    model = small_model(5)
    expected: list[int] = []
    target = [2]
    with torch.no_grad():
        while len(expected) < 8:
            logits = model.logits(model(torch.tensor([SOURCES[1]]), None, torch.tensor([target])))
            best = int(logits[0, -1].argmax())
            if best == model.config.eos_id:
                break
            expected.append(best)
            target.append(best)
    assert translate_ids(model, [SOURCES[1]], max_length=8) == [expected]


def sequence_score(model: Transformer, source: list[int], target: tuple[int, ...]) -> float:
    shifted = torch.tensor([[model.config.bos_id, *target[:-1]]])
    with torch.no_grad():
        log_probs = model.logits(model(torch.tensor([source]), None, shifted)).log_softmax(-1)[0]
    return float(log_probs[range(len(target)), list(target)].sum())


def test_a_beam_as_wide_as_the_space_finds_the_best_of_all_sequences() -> None:
    model = small_model(8, vocabulary=6)
    source = [4, 5, 3]
    eos, longest = model.config.eos_id, 3
    words = [i for i in range(6) if i != eos]
    candidates = [
        (*prefix, eos) for length in range(longest) for prefix in itertools.product(words, repeat=length)
    ] + list(itertools.product(words, repeat=longest))
    best = max(candidates, key=lambda c: sequence_score(model, source, c) / len(c))
    found = translate_ids(model, [source], beam_size=6**longest // 2, max_length=longest, length_penalty=1.0)[0]
    assert found == [i for i in best if i != eos]
