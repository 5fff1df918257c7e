"""Unknown tokens replaced by words of the source."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.service.unknowns import replaced
from dragoman_server.tokenization import TextCodec

UNK = 0
WORDS = ["<unk>", "Ich", "kenne", "nicht", ".", "und", "I", "know", "not", "and"]


def codec(*, metaspace: bool = False) -> TextCodec:
    """One token for each word, and one for all that it does not know."""
    prefix = "▁" if metaspace else ""
    vocabulary = {word if word in {"<unk>", "."} else prefix + word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True)])
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        tokenizer.decoder = decoders.Metaspace()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return TextCodec(tokenizer, tags={}, eos=99)


def answer(ids: list[int], attends: list[int], width: int, text: str | None = None) -> Answer:
    """Token i attends most to source id ``attends[i]``; the language tag is id 0."""
    attention = np.full((len(ids) + 1, width), 0.01, np.float32)
    for row, column in enumerate(attends):
        attention[row, column] = 0.9
    attention[:, 0] = attention[:, -1] = 1.0  # tag and end-of-sentence are no words
    return Answer(ids, [0.0] * (len(ids) + 1), FinishReason.STOP, 0.0, text, attention)


SOURCE = "I know Ouagadougou not."  # five tokens between tag and end-of-sentence


def test_an_unknown_token_becomes_the_word_that_it_attends_to() -> None:
    words = codec()
    assert words.encode(SOURCE) == [6, 7, UNK, 8, 4]
    told = answer([1, 2, UNK, 3, 4], [1, 2, 3, 4, 5], 7)
    assert replaced(told, SOURCE, UNK, words) == "Ich kenne Ouagadougou nicht ."


def test_unknown_tokens_in_a_row_stand_for_the_same_word_once() -> None:
    words = codec()
    assert replaced(answer([1, UNK, UNK, 4], [1, 3, 3, 5], 7), SOURCE, UNK, words) == "Ich Ouagadougou ."
    assert replaced(answer([UNK, UNK], [2, 3], 7), SOURCE, UNK, words) == "know Ouagadougou"
    assert replaced(answer([UNK, 5, UNK], [3, 1, 3], 7), SOURCE, UNK, words) == "Ouagadougou und Ouagadougou"


def test_the_word_is_placed_as_the_tokenizer_writes_words() -> None:
    source = "I know xyz-1."
    words = codec(metaspace=True)
    offsets = words.offsets(source)
    assert [source[b:e].strip() for b, e in offsets][:3] == ["I", "know", "xyz"]
    told = answer([1, 2, UNK, 4], [1, 2, 3, 1], len(offsets) + 2)
    text = replaced(told, source, UNK, words)
    assert text.startswith("Ich kenne")
    assert text.endswith("xyz-1.")


def test_nothing_to_replace() -> None:
    words = codec()
    known = answer([1, 2], [1, 2], 7)
    assert replaced(known, SOURCE, UNK, words) == "Ich kenne"
    without = Answer([1, UNK], [0.0] * 3, FinishReason.STOP, 0.0)
    assert replaced(without, SOURCE, UNK, words) == "Ich"


@pytest.mark.parametrize(("stop", "expected"), [("nicht", "Ich Ouagadougou "), ("gadou", "Ich Oua")])
def test_a_stop_sequence_cuts_the_text_that_has_the_words(stop: str, expected: str) -> None:
    told = answer([1, UNK, 3], [1, 3, 4], 7, text="Ich ")
    assert replaced(told, SOURCE, UNK, codec(), [stop]) == expected
