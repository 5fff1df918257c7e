from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.ending import answered, stopped
from dragoman_server.decoding.hypothesis import FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.stopping import StopSequences, resolve_lengths
from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.request import Request
from tests.unit.server.decoding_requests import letters
from tests.unit.server.tiny import train_tokenizer

EOS = 3


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_the_text_ends_before_the_first_of_the_strings(ids: list[int], strings: list[str]) -> None:
    text, expected = letters(ids), None
    for position in range(len(text)):
        if any(text[position:].startswith(string) for string in strings):
            expected = text[:position]
            break
    assert StopSequences(tuple(strings), letters).cut(ids) == expected


def test_a_string_may_begin_and_end_inside_tokens() -> None:
    tokenizer = train_tokenizer()
    ids = tokenizer.encode("Nobody has seen the green bicycle today.").ids
    stop = StopSequences(("een b", "today"), tokenizer.decode)
    assert [stop.cut(ids[:count]) for count in range(len(ids))].count(None) > 10
    assert stop.cut(ids) == "Nobody has seen the gr"


def test_a_character_whose_bytes_are_not_all_there_stops_nothing() -> None:
    tokenizer = train_tokenizer()
    ids = tokenizer.encode("日本").ids
    assert len(ids) == 6
    stop = StopSequences(("本",), tokenizer.decode)
    assert [stop.cut(ids[:count]) for count in range(7)] == [None] * 6 + ["日"]


def test_what_ends_a_hypothesis() -> None:
    options = DecodingOptions(max_length=3, stop=StopSequences(("g",), letters))
    table = HypothesisTable(2, 5, 9)
    table.start(1, Request([7, 3], options, lambda outcome: None), 2, 0)
    for token, log_prob in ((4, -1.0), (5, -2.0)):
        table.next_ids[1], table.next_log_probs[1] = token, log_prob
        table.append(2)
    answers = {token: answered(table, 1, table.pasts([1])[0], token, -3.0, eos=EOS) for token in (EOS, 6, 7)}
    assert table.token_ids(1) == [4, 5]
    assert {token: (a.token_ids, a.finish_reason, a.text) for token, a in answers.items()} == {
        EOS: ([4, 5], FinishReason.STOP, None),
        6: ([4, 5, 6], FinishReason.STOP_SEQUENCE, "ef"),  # before the most tokens, which it also has
        7: ([4, 5, 7], FinishReason.LENGTH, None),
    }
    assert all(a.log_probs == [-1.0, -2.0, -3.0] and a.rank_score == -2.0 for a in answers.values())
    assert [stopped(table, 1, token) for token in (5, 6)] == [False, True]


@given(
    st.lists(st.integers(0, 3), max_size=9),
    st.lists(st.integers(0, 3), max_size=9),
    st.lists(st.text("abcd", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_what_is_settled_is_never_cut_and_never_taken_back(ids: list[int], more: list[int], strings: list[str]) -> None:
    stop, grown = StopSequences(tuple(strings), letters), [*ids, *more]
    settled = [stop.settled(grown[:count]) for count in range(len(grown) + 1)]
    assert settled == sorted(settled)
    cut = stop.cut(grown)
    text = letters(grown) if cut is None else cut
    assert all(text.startswith(letters(grown[:count])) for count in settled)
    if not any(letters(ids).endswith(string[:size]) for string in strings for size in range(1, len(string))):
        assert stop.cut(ids) is not None or stop.settled(ids) == len(ids)


def test_a_character_is_settled_with_its_last_byte() -> None:
    tokenizer = train_tokenizer()
    ids = tokenizer.encode("a日本").ids
    stop = StopSequences(("z",), tokenizer.decode)
    assert [stop.settled(ids[:count]) for count in range(len(ids) + 1)] == [0, 1, 1, 1, 4, 4, 4, 7]
    assert StopSequences(("日x",), tokenizer.decode).settled(ids[:4]) == 1


@pytest.mark.parametrize(
    ("source", "given_lengths", "expected"),
    [
        (10, {}, (50, 0)),
        (10, {"max_length_ratio": 1.5}, (15, 0)),
        (10, {"max_length_ratio": 15.0}, (50, 0)),
        (3, {"max_length_ratio": 0.1}, (1, 0)),
        (10, {"min_length_ratio": 0.75}, (50, 8)),
        (10, {"min_length": 9, "min_length_ratio": 0.75}, (50, 9)),
        (10, {"max_length_ratio": 1.0, "min_length_ratio": 1.0}, (10, 9)),
    ],
)
def test_lengths_relative_to_the_source(
    source: int, given_lengths: dict[str, float], expected: tuple[int, int]
) -> None:
    given_all = {"max_length": 50, "min_length": 0} | given_lengths
    assert resolve_lengths(source, **given_all) == expected  # type: ignore[arg-type]


@given(st.integers(1, 300), st.integers(1, 200), st.none() | st.floats(0.01, 16), st.none() | st.floats(0.01, 16))
def test_lengths_always_leave_room(source: int, longest: int, most: float | None, fewest: float | None) -> None:
    max_length, min_length = resolve_lengths(
        source, max_length=longest, min_length=0, max_length_ratio=most, min_length_ratio=fewest
    )
    assert 0 <= min_length < max_length <= longest
    if most is not None:
        assert max_length <= max(1, math.floor(most * source))
