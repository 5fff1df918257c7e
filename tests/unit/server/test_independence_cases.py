"""What the proof of independence decodes: the cases that it draws, sentences of our own, and those of a file."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from dragoman_server.errors import InvalidArgument
from dragoman_server.independence.cases import KINDS, WIDEST
from dragoman_server.independence.sentences import own_sentences
from dragoman_server.independence.texts import read_sentences
from tests.unit.server.independence_cases import cases
from tests.unit.server.toy_model import EOS, VOCABULARY


def test_cases_are_the_seeds_and_of_every_kind() -> None:
    drawn = cases(90)
    assert drawn == cases(90)
    counts = Counter(case.kind for case in drawn)
    assert sum(counts.values()) == 270 + counts["forced"]
    assert counts["filtered"] == 90
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 10
    for case in drawn:
        options = case.options
        assert options.width <= WIDEST
        assert options.min_length < options.max_length <= 16
        assert options.restricts == (case.kind == "filtered")
        assert case.kind != "greedy" or options.plain
        assert options.forced == (case.kind == "forced")
        assert bool(options.alternatives) == (case.kind == "alternatives") or case.kind == "filtered"
        if options.forced:
            assert options.prefix[-1] == EOS
            assert max(options.prefix) < VOCABULARY
    forced = [case for case in drawn if case.kind == "forced"]
    assert 0 < sum(case.source_ids[1:] == case.options.prefix for case in forced) < len(forced)
    for some in (
        [case.options.with_attention for case in drawn],
        [case.options.coverage_penalty > 0 for case in drawn],
        [case.options.stop is not None for case in drawn if case.kind == "filtered"],
    ):
        assert len(some) / 8 < sum(some) < len(some) / 2
    filtered = [case.options for case in drawn if case.kind == "filtered"]
    for some in (
        [options.presence_penalty != 0 for options in filtered],
        [options.frequency_penalty != 0 for options in filtered],
        [options.allowed is not None for options in filtered],
        [bool(options.prefix) for options in filtered],
        [any(len(sequence) > 1 for sequence in options.banned) for options in filtered],
        [case.options.patience != 1 for case in drawn if case.options.beam_size > 1],
        [case.options.sampling.typical_p != 1 for case in drawn if case.options.sampling],
    ):
        assert 0 < sum(some) < len(some)


def test_a_thousand_sentences_of_our_own() -> None:
    drawn = own_sentences(1000, seed=4)
    assert drawn == own_sentences(1000, seed=4)
    assert drawn != own_sentences(1000, seed=5)
    assert len({sentence.text for sentence in drawn}) == 1000
    assert Counter(sentence.language for sentence in drawn) == {"en": 500, "de": 500}
    lengths = {len(sentence.text.split()) for sentence in drawn}
    assert (min(lengths), max(lengths)) == (1, 40)
    assert len(lengths) > 35


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("lines.txt", b"one\n\ntwo words\r\none\n  three \n", 1),
        ("lines.txt.gz", gzip.compress(b"one\ntwo words\nthree"), 1),
        ("pairs.tsv", b"x\tone\na\ttwo words\ny\tthree\n", 2),
        ("pairs.tsv.gz", gzip.compress(b"one\tx\ntwo words\ty\nthree\tz\n"), 1),
    ],
)
def test_sentences_of_a_file(tmp_path: Path, name: str, content: bytes, column: int) -> None:
    (tmp_path / name).write_bytes(content)
    found = [sentence.text for sentence in read_sentences(tmp_path / name, column, 100, seed=1)]
    assert sorted(found) == ["one", "three", "two words"]
    few = read_sentences(tmp_path / name, column, 2, seed=1)
    assert len({sentence.text for sentence in few} & set(found)) == 2


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("absent", None, "data"),
        ("empty.txt", b"\n \n", "data"),
        ("latin.txt", b"\xfc\n", "data"),
        ("short.txt.gz", gzip.compress(b"some text")[:-9], "data"),
        ("broken.txt.gz", gzip.compress(b"some text")[:10] + b"\xff" * 40, "data"),
        ("pairs.tsv", b"a\tb\nc\td\n", "column"),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, name: str, content: bytes | None, field: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        read_sentences(tmp_path / name, 3, 10, seed=1)
    assert [violation.field for violation in caught.value.violations] == [field]
