"""The decoder-only model: causal, cached as uncached, in chunks as whole, scored alike with any stride."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dragoman_model.checkpoint import CheckpointError, checkpoint_family, load_model
from dragoman_model.config import DecoderConfig
from dragoman_model.data import DataError
from dragoman_model.generation import empty_cache, extend, generate
from dragoman_model.language_model_evaluation import evaluate_texts, score_documents
from dragoman_model.transformer import Transformer
from tests.unit.model.small_text import TEXT, save_text_checkpoint, small_language_model

MODEL = small_language_model()


def texts(longest: int = 16) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(4, 39), min_size=1, max_size=longest)


@given(texts(), st.data())
@settings(max_examples=20, deadline=None)
def test_what_comes_later_changes_nothing_before_it(ids: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(ids)))
    whole = MODEL(torch.tensor([ids]))
    part = MODEL(torch.tensor([ids[:kept]]))
    torch.testing.assert_close(whole[:, :kept], part, atol=1e-5, rtol=1e-5)


@given(texts(), st.data())
@settings(max_examples=20, deadline=None)
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(ids: list[int], data: st.DataObject) -> None:
    cache, parts, begin = empty_cache(MODEL, 1), [], 0
    while begin < len(ids):
        end = data.draw(st.integers(begin + 1, len(ids)))
        parts.append(extend(MODEL, torch.tensor([ids[begin:end]]), cache))
        begin = end
    torch.testing.assert_close(torch.cat(parts, dim=1), MODEL(torch.tensor([ids])), atol=1e-5, rtol=1e-5)


@given(st.lists(texts(10), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_cached_generation_equals_uncached(prompts: list[list[int]]) -> None:
    with_bos = [[MODEL.config.bos_id, *prompt] for prompt in prompts]
    cached = generate(MODEL, with_bos, 8)
    assert cached == generate(MODEL, with_bos, 8, cached=False)
    assert all(len(prompt) + len(new) <= 16 for prompt, new in zip(with_bos, cached, strict=True))


def test_prompts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="prompt 0: 0 ids, 1 to 16; prompt 2: 17 ids"):
        generate(MODEL, [[], [2], [2] * 17], 3)


def test_generation_ends_at_the_end_of_the_text() -> None:
    def generated(**changes: object) -> list[int]:
        model = small_language_model(**changes)
        with torch.no_grad():  # a random model would repeat its last token: with loud positions it says something else
            model.positions.table.mul_(30)
        return generate(model, [[2, 5, 6]], 6)[0]

    likeliest = generated()
    ending = next(i for i, token in enumerate(likeliest) if i > 0 and token not in likeliest[:i])
    assert generated(eos_id=likeliest[ending]) == likeliest[:ending]


def test_windows_cover_every_token_once_and_agree_with_a_plain_sum() -> None:
    """Of a text that fits the window, any stride gives the same; of a longer one, nearly the same."""
    short = torch.randint(4, 40, (13,), generator=torch.Generator().manual_seed(1)).tolist()
    log_probs = MODEL(torch.tensor([[MODEL.config.bos_id, *short[:-1]]]))[0].log_softmax(dim=-1).tolist()
    plain = -sum(log_probs[i][token] for i, token in enumerate(short))
    for stride in (1, 5, 16):
        score = score_documents(MODEL, [short], stride=stride)
        assert score.nats == pytest.approx(plain, rel=1e-5)
        assert score.tokens == 13
    long = torch.randint(4, 40, (203,), generator=torch.Generator().manual_seed(2)).tolist()
    whole = score_documents(MODEL, [long, short, long])
    assert whole.tokens == 419
    for stride in (1, 3, 11, 16):
        score = score_documents(MODEL, [long, short, long], stride=stride)
        assert score.tokens == 419
        assert score.nats == pytest.approx(whole.nats, rel=0.05)
    with pytest.raises(ValueError, match=r"stride = 17 must lie in \[1, 16\]"):
        score_documents(MODEL, [long], stride=17)


def test_a_checkpoint_comes_back_as_its_family(tmp_path: Path) -> None:
    trained = save_text_checkpoint(tmp_path / "model")
    again = small_language_model(vocabulary=trained.model.config.vocabulary)
    ids = torch.tensor([[2, 20, 30]])
    assert torch.equal(trained.model(ids), again(ids))
    assert checkpoint_family(tmp_path / "model") == "decoder"
    assert trained.provenance.languages == []
    with pytest.raises(CheckpointError, match="holds a LanguageModel, and a Transformer is needed"):
        load_model(tmp_path / "model", Transformer)
    (tmp_path / "model" / "config.json").write_text('{"family": "convolutional"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="family = 'convolutional' must be one of encoder-decoder, decoder"):
        checkpoint_family(tmp_path / "model")


def test_a_text_is_scored_by_its_characters(tmp_path: Path) -> None:
    trained = save_text_checkpoint(tmp_path / "model")
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    found = evaluate_texts(trained, [file], last=0.1)
    assert found.characters == len(TEXT) - int(len(TEXT) * 0.9)
    ids = trained.tokenizer.encode(TEXT[int(len(TEXT) * 0.9) :]).ids
    assert found.score == score_documents(trained.model, [ids])
    assert found.nats_per_character == pytest.approx(found.score.nats / found.characters)
    with pytest.raises(DataError, match=r"last = 0 must lie in \(0, 1\]"):
        evaluate_texts(trained, [file], last=0.0)


def test_special_ids_must_lie_in_the_vocabulary() -> None:
    with pytest.raises(ValidationError, match="must differ and lie in"):
        DecoderConfig(vocabulary=50, eos_id=2)
