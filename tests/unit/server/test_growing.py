"""Text as it is decoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from dragoman_server.request import Progress
from dragoman_server.service.growing import GrowingText
from dragoman_server.tokenization import TextCodec
from tests.unit.server import tiny

BYTES = TextCodec(tiny.train_tokenizer(), tags={}, eos=tiny.EOS)


def word_pieces() -> TextCodec:
    """Pieces whose decoder joins and tidies: "do", "n't" become "don't"."""
    vocabulary = {"[UNK]": 0, "hello": 1, "##s": 2, ",": 3, "do": 4, "n't": 5, "world": 6, ".": 7, "a": 8}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    return TextCodec(tokenizer, tags={}, eos=0)


@given(st.text(max_size=12), st.lists(st.integers(6, 299), max_size=20), st.data())
def test_final_text_only_grows_and_begins_the_finished_text(text: str, ids: list[int], data: st.DataObject) -> None:
    for codec, target in ((BYTES, [*BYTES.encode(text), *ids]), (word_pieces(), [i % 9 for i in ids])):
        finished, growing, before = codec.decode(target), GrowingText(codec), ""
        for length in range(len(target) + 1):
            ahead = data.draw(st.integers(length, len(target)))
            growing.update(Progress(target[:length], target[length:ahead]))
            assert growing.final.startswith(before)
            assert finished.startswith(growing.final)
            before = growing.final


def test_half_a_character_is_held_back() -> None:
    growing = GrowingText(BYTES)
    ids = BYTES.encode("a🚲b")
    seen = []
    for length in range(1, len(ids) + 1):
        growing.update(Progress(ids[:length], []))
        seen.append((growing.final, growing.provisional))
    assert set(seen) == {("a", ""), ("a🚲", ""), ("a🚲b", "")}


def test_what_is_provisional_follows_what_is_final() -> None:
    growing = GrowingText(BYTES)
    ids = BYTES.encode("old town harbour")
    growing.update(Progress(ids[:3], ids[3:-1]))
    assert growing.final
    whole = growing.final + growing.provisional
    assert whole == BYTES.decode(ids[:-1])
    growing.update(Progress(ids[:3], BYTES.encode("!")))
    assert growing.final + growing.provisional == BYTES.decode([*ids[:3], *BYTES.encode("!")])


def test_the_beginning_of_a_stop_sequence_is_held_back() -> None:
    growing = GrowingText(BYTES, stops=["END", "~~"])
    for text, final in (("good E", "good"), ("good EN", "good"), ("good ENd", "good ENd"), ("good ENd~", "good ENd")):
        growing.update(Progress(BYTES.encode(text), []))
        assert growing.final == final


def test_nothing_is_told_from_a_stop_sequence_on() -> None:
    growing = GrowingText(BYTES, stops=["END", "~~"])
    for final, provisional, told in (("", "good ~~ END", "good "), ("go", "od END ~~", "od "), ("good", " E", " E")):
        growing.update(Progress(BYTES.encode(final), BYTES.encode(provisional)))
        assert (growing.final, growing.provisional) == (final, told)


def test_what_stands_for_an_unknown_token_is_not_known_yet() -> None:
    growing = GrowingText(BYTES, unknown_id=tiny.UNK)
    growing.update(Progress([*BYTES.encode("old"), tiny.UNK, *BYTES.encode(" town")], []))
    assert (growing.final, growing.provisional) == ("old", " town")


@pytest.mark.parametrize("pieces", [[4, 5], [1, 2, 3, 6, 7]])
def test_a_decoder_that_tidies(pieces: list[int]) -> None:
    codec, seen = word_pieces(), []
    growing = GrowingText(codec)
    for length in range(1, len(pieces) + 1):
        growing.update(Progress(pieces[:length], []))
        seen.append(growing.final)
    assert seen[-1] == codec.decode(pieces)
    assert all(seen[-1].startswith(text) for text in seen)
