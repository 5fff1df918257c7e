"""Text that is decoded part by part: final text stays, and comes to the whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from dragoman_server.decoding.stopping import StopSequences
from dragoman_server.request import Progress
from dragoman_server.service.continuing import ContinuedText
from dragoman_server.tokenization import TextCodec
from tests.unit.server import tiny


def codec_of(tokenizer: Tokenizer) -> TextCodec:
    return TextCodec(tokenizer, tags={}, eos=tiny.EOS)


BYTES = codec_of(tiny.train_tokenizer())
STOPS = ("\n\n", "über", "never")
_texts = st.lists(st.sampled_from(["Hafen ", "über", "ü", "b", "\n", " ", "🙂", "日本", "die ", "n"]), max_size=40)


def grow(text: ContinuedText, ids: Sequence[int], lengths: Sequence[int]) -> list[str]:
    """Decode the ids one by one in parts of these lengths; what became final, step by step."""
    finals, final, begin = [""], "", 0
    for length in lengths:
        part = ids[begin : begin + length]
        for count in range(1, len(part) + 1):
            text.update(Progress(part[:count], []))
            final += text.read()
            finals.append(final)
        begin += length
        if begin < len(ids):
            text.go_on(part)
            final += text.read()
            finals.append(final)
    return finals


@settings(max_examples=60, deadline=None)
@given(_texts, st.lists(st.integers(1, 9), min_size=60, max_size=60), st.integers(0, 5))
@example(["🙂"] * 6, [1] * 60, 0)
@example(["b", "ü"], [2, 1, 1] * 20, 3)
def test_final_text_is_never_taken_back_and_comes_to_the_whole(words: list[str], lengths: list[int], cut: int) -> None:
    ids = BYTES.encode("".join(words))
    ids = ids[: len(ids) - cut]
    whole = BYTES.decode(ids)
    finals = grow(ContinuedText(BYTES), ids, lengths)
    for earlier, later in zip(finals, [*finals[1:], whole], strict=True):
        assert later.startswith(earlier)
    # A long part is settled piece by piece as well.
    assert (
        grow(ContinuedText(BYTES), [*ids] * 4, [len(ids) * 4 + 1])[-1]
        == BYTES.decode([*ids] * 4).rstrip("\ufffd").rstrip()
    )
    # No more is held back than blanks, and a character of which some bytes are still to come.
    assert len(whole.rstrip("\ufffd").rstrip()) == len(finals[-1])


@settings(max_examples=40, deadline=None)
@given(_texts, st.lists(st.integers(1, 9), min_size=60, max_size=60))
def test_what_a_stop_sequence_may_still_cut_is_not_final(words: list[str], lengths: list[int]) -> None:
    ids, stop = BYTES.encode("".join(words)), StopSequences(STOPS, BYTES.decode)
    end = next((count for count in range(len(ids) + 1) if stop.cut(ids[:count]) is not None), len(ids))
    answer = stop.cut(ids[:end])
    text = BYTES.decode(ids[:end]) if answer is None else answer
    finals = grow(ContinuedText(BYTES, STOPS), ids[:end], lengths)
    for earlier, later in zip(finals, [*finals[1:], text], strict=True):
        assert later.startswith(earlier)


@settings(max_examples=40, deadline=None)
@given(_texts, st.integers(0, 60))
def test_a_stop_sequence_is_found_across_parts(words: list[str], split: int) -> None:
    ids, stop = BYTES.encode("".join(words)), StopSequences(STOPS, BYTES.decode)
    if stop.cut(ids[:split]) is None:
        after = stop.after(ids[:split])
        assert (after.cut(ids[split:]) is None) == (stop.cut(ids) is None)
        assert len(after.before) <= 4 * max(map(len, STOPS))


def test_a_decoder_that_treats_the_first_token_in_its_own_way() -> None:
    tokenizer = tiny.train_tokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    codec = codec_of(tokenizer)
    ids = [token_id for _ in range(12) for token_id in BYTES.encode(" Hafen")]
    finals = grow(ContinuedText(codec), ids, [2] * len(ids))
    assert finals[-1] == codec.decode(ids) == " ".join(["Hafen"] * 12)


@pytest.mark.parametrize("length", [8, 10_000])
def test_little_is_decoded_again_however_long_the_text_and_its_parts_are(length: int) -> None:
    decoded: list[int] = []

    class Counting(TextCodec):
        def decode(self, ids: Sequence[int]) -> str:
            decoded.append(len(ids))
            return super().decode(ids)

    codec = Counting(tiny.train_tokenizer(), tags={}, eos=tiny.EOS)
    ids = BYTES.encode("Der Hafen liegt unterhalb der alten Stadt. ") * 20
    finals = grow(ContinuedText(codec), ids, [length] * len(ids))
    assert finals[-1] == BYTES.decode(ids).rstrip()
    assert max(decoded) <= 16 + 8 + 33


@pytest.mark.parametrize("provisional", [[], BYTES.encode(" blau")])
def test_what_may_change_follows_what_is_final(provisional: list[int]) -> None:
    text = ContinuedText(BYTES)
    text.go_on(BYTES.encode("Der Hafen"))
    text.update(Progress(BYTES.encode(" ist"), provisional))
    assert text.read() + text.provisional == "Der Hafen ist" + BYTES.decode(provisional)
