"""The random model's sources: the target ends where they say, in PyTorch's own search."""

from __future__ import annotations

import pytest

from dragoman_model.search import translate_ids
from tests.bench.random_base import END_ID, FIRST_WORD, base_source, base_tokenizer, random_base, word


def test_where_the_end_stands() -> None:
    words = [FIRST_WORD, FIRST_WORD + 1, FIRST_WORD + 2]
    assert base_source(words, 2) == [4, FIRST_WORD, END_ID, FIRST_WORD + 2, 3]
    assert base_source(words, 4) == [4, *words, 3]


@pytest.mark.parametrize("length", [0, 5])
def test_a_target_longer_than_its_source_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 4"):
        base_source([FIRST_WORD] * 3, length)


def test_texts_and_ids_agree() -> None:
    ids = base_source([FIRST_WORD, 31_999, 500], 2)
    found = base_tokenizer().encode(" ".join(map(word, ids[1:-1])), add_special_tokens=False).ids
    assert [4, *found, 3] == ids


def test_every_target_has_its_length() -> None:
    lengths = [1, 9, 14, 3]
    sources = [base_source(list(range(100 * length, 100 * length + 13)), length) for length in lengths]
    model = random_base()
    for beam in (1, 4):
        assert [len(ids) for ids in translate_ids(model, sources, beam_size=beam, max_length=40)] == lengths
