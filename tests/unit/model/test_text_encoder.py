"""The encoder-only model: padding, batches and segments; heads by config; a checkpoint that comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dragoman_model.checkpoint import Provenance, load_model, save_model
from dragoman_model.encoder_batching import EncoderText, collate_texts, make_text
from dragoman_model.encoder_tokenizer import train_encoder_tokenizer
from dragoman_model.text_encoder import TextEncoder
from tests.unit.model.small_encoder import small_encoder, small_encoder_config

SHORT, LONG = [2, 9, 17, 3], [2, 30, 31, 32, 3, 12, 13, 3]


def test_neither_padding_nor_company_changes_a_text() -> None:
    model = small_encoder()
    texts = [EncoderText(SHORT, [0] * 4), EncoderText(LONG, [0] * 5 + [1] * 3)]
    batch = collate_texts(texts, model.config)
    together = model(batch.ids, batch.lengths, batch.segments)
    for row, text in enumerate(texts):
        assert text.segments is not None
        alone = model(torch.tensor([text.ids]), None, torch.tensor([text.segments]))
        torch.testing.assert_close(together[row, : len(text.ids)], alone[0], atol=1e-6, rtol=1e-5)


def test_what_is_padded_is_never_seen() -> None:
    model = small_encoder()
    lengths = torch.tensor([4])
    first, second = (torch.tensor([SHORT + [filler] * 3]) for filler in (0, 25))
    assert torch.equal(model(first, lengths)[:, :4], model(second, lengths)[:, :4])


def test_every_token_sees_every_other_and_segments_tell_texts_apart() -> None:
    model = small_encoder()
    ids = torch.tensor([LONG])
    plain = model(ids)
    changed = ids.clone()
    changed[0, -2] = 20
    assert not torch.allclose(model(changed)[0, 0], plain[0, 0])
    assert torch.equal(model(ids, None, torch.zeros_like(ids)), plain)
    assert not torch.allclose(model(ids, None, torch.tensor([[0] * 5 + [1] * 3])), plain)
    with pytest.raises(ValueError, match="segments = 0"):
        small_encoder(segments=0, next_sentence=False)(ids, None, torch.zeros_like(ids))


def test_heads_are_there_by_config() -> None:
    model = small_encoder()
    states = model(torch.tensor([LONG]))
    assert model.label_logits(states[:, 0]).shape == (1, 3)
    assert model.tag_logits(states).shape == (1, 8, 2)
    assert model.mask_logits(states).shape == (1, 8, 40)
    assert model.next_sentence_logits(states[:, 0]).shape == (1, 2)
    bare = small_encoder(labels=[], tags=[], mask_head=False, next_sentence=False, segments=0)
    heads = (bare.pooler, bare.classifier, bare.tagger, bare.mask_head, bare.next_sentence, bare.segment_embedding)
    assert heads == (None,) * 6


def test_faults_of_a_config_are_told_together() -> None:
    with pytest.raises(ValidationError, match=r"labels = \['a', 'a'\]: each once; segments = 0"):
        small_encoder_config(labels=["a", "a"], segments=0)
    with pytest.raises(ValidationError, match="special ids"):
        small_encoder_config(mask_id=3)


def test_texts_and_pairs_are_framed_and_cut() -> None:
    config = small_encoder_config()
    assert make_text(config, [7, 8], most=9) == EncoderText([2, 7, 8, 3], [0, 0, 0, 0])
    assert make_text(config, [7, 8], [9], most=9) == EncoderText([2, 7, 8, 3, 9, 3], [0, 0, 0, 0, 1, 1])
    assert make_text(config, list(range(5, 15)), most=6).ids == [2, 5, 6, 7, 8, 3]
    long = list(range(5, 15))
    # Of 7 places for tokens the first may have 4; what one leaves the other takes.
    assert make_text(config, long, long, most=10).ids == [2, 5, 6, 7, 8, 3, 5, 6, 7, 3]
    assert make_text(config, long, [20], most=10).ids == [2, 5, 6, 7, 8, 9, 10, 3, 20, 3]
    assert make_text(config, [20], long, most=10).ids == [2, 20, 3, 5, 6, 7, 8, 9, 10, 3]
    with pytest.raises(ValueError, match="segments = 2"):
        make_text(small_encoder_config(segments=0, next_sentence=False), [7], [8], most=9)


@given(
    first=st.lists(st.integers(5, 39), max_size=15),
    second=st.lists(st.integers(5, 39), max_size=15),
    most=st.integers(3, 40),
)
def test_pairs_lose_only_their_ends_and_only_for_want_of_room(first: list[int], second: list[int], most: int) -> None:
    text = make_text(small_encoder_config(), first, second, most=most)
    assert text.segments is not None
    assert len(text.ids) == len(text.segments) == min(most, len(first) + len(second) + 3)
    begin = text.segments.index(1)
    head, tail = text.ids[1 : begin - 1], text.ids[begin:-1]
    assert (text.ids[0], text.ids[begin - 1], text.ids[-1]) == (2, 3, 3)
    assert (head, tail) == (first[: len(head)], second[: len(tail)])
    # Neither is cut below half of the room while the other has more.
    assert len(head) == len(first) or len(head) >= len(tail)
    assert len(tail) == len(second) or len(tail) + 1 >= len(head)


def test_a_checkpoint_comes_back_with_its_heads(tmp_path: Path) -> None:
    model = small_encoder(out_of_scope_threshold=0.25)
    tokenizer = train_encoder_tokenizer(["a text of our own"], 300)
    provenance = Provenance("tiny", "", [], [], "", 0, "", "", "")
    save_model(tmp_path / "model", model.state_dict(), model.config, tokenizer, provenance)
    loaded = load_model(tmp_path / "model", TextEncoder)
    assert loaded.model.config == model.config
    assert loaded.provenance == provenance
    ids = torch.tensor([LONG])
    assert torch.equal(loaded.model(ids), model(ids))
