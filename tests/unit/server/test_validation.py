from __future__ import annotations

import threading

import pytest

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument, NotFound
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.texts import shortened
from dragoman_server.service.validation import text_violations, validate_score
from dragoman_server.settings import SettingsError
from tests.unit.server.validating import (
    NONE,
    WordCodec,
    faults,
    make_catalogue,
    only,
    validated,
)


@pytest.fixture
def codec() -> WordCodec:
    return WordCodec()


@pytest.fixture
def catalogue(codec: WordCodec) -> Catalogue:
    return make_catalogue(codec)


async def test_a_good_request(catalogue: Catalogue) -> None:
    translation = await validated(catalogue, source_language="en", model="deu-eng", priority=9)
    assert only(translation) == ([4, 10, 10, 10, 3], DecodingOptions(max_length=15))
    assert translation.priority == 9
    assert translation.host.name == "deu-eng"


@pytest.mark.parametrize("length", [1, 20])
async def test_max_length_in_range(catalogue: Catalogue, length: int) -> None:
    options = inference_pb2.DecodingOptions(max_length=length)
    assert only(await validated(catalogue, options=options))[1].max_length == length


@pytest.mark.parametrize("length", [0, 21, 4294967295])
async def test_max_length_out_of_range(catalogue: Catalogue, length: int) -> None:
    options = inference_pb2.DecodingOptions(max_length=length)
    assert await faults(catalogue, options=options) == {"options.max_length": (str(length), "1 to 20 tokens")}


@pytest.mark.parametrize(
    ("text", "value"),
    [("", "empty"), (" \n\u3000", "3 blank characters"), ("a\0b", "NUL at character 2")],
)
async def test_texts_that_no_model_takes(catalogue: Catalogue, text: str, value: str) -> None:
    assert (await faults(catalogue, text=text))["text"][0] == value


def test_a_lone_surrogate() -> None:
    # The wire refuses it as malformed UTF-8 already; the check does not rely on that.
    assert text_violations("ab\ud800")[0].value == "a lone surrogate at character 3"


async def test_tokens_at_and_over_the_limit(catalogue: Catalogue) -> None:
    assert len(only(await validated(catalogue, text="w " * 8))[0]) == 10
    value, limit = (await faults(catalogue, text="w " * 9, segmentation=NONE))["text"]
    assert value == "11 tokens"
    assert limit.startswith("at most 10 tokens")


async def test_an_endless_text_is_never_tokenised(catalogue: Catalogue, codec: WordCodec) -> None:
    assert await faults(catalogue, text="w" * 5001, segmentation=NONE) == {
        "text": ("5001 characters", "at most 5000 characters, and 10 tokens")
    }
    assert await faults(catalogue, text="w" * 100_001) == {"text": ("100001 characters", "at most 100000 characters")}
    two = inference_pb2.DecodingOptions(beam_size=2, num_hypotheses=2)
    assert await faults(catalogue, text="w" * 50_001, options=two) == {
        "text": ("50001 characters", "at most 50000 characters, 100000 divided by 2 hypotheses")
    }
    assert await faults(catalogue, text="w.\n" * 2049) == {"text": ("2049 segments", "at most 2048 segments")}
    assert codec.threads == []


async def test_segments_are_checked_and_resolved_each(catalogue: Catalogue) -> None:
    text = "One two.\n\n  --\nThree. " + "four " * 12
    ratio = inference_pb2.DecodingOptions(max_length_ratio=1)
    translation = await validated(catalogue, text=text, options=ratio)
    shown = [
        (text[s.begin : s.end], len(s.source_ids), s.options and s.options.max_length) for s in translation.segments
    ]
    assert shown == [
        ("One two.", 4, 2),
        ("--", 0, None),
        ("Three.", 3, 1),
        ("four four four four four four four four", 10, 8),
        ("four four four four", 6, 4),
    ]


async def test_what_only_one_segment_can_have(catalogue: Catalogue) -> None:
    text = "One. Two."
    prefixed, branching = (
        inference_pb2.DecodingOptions(target_prefix="w"),
        inference_pb2.DecodingOptions(alternatives=2),
    )
    for given, named in ((prefixed, "target_prefix"), (branching, "alternatives")):
        assert len((await validated(catalogue, text=text, options=given)).segments) == 1
        assert await faults(catalogue, text=text, options=given, segmentation=inference_pb2.SEGMENTATION_SENTENCES) == {
            "text": ("2 segments", f"1 segment, with options.{named}")
        }
        # A sentence too long for the model would be cut.
        assert await faults(
            catalogue, text="w " * 40, options=given, segmentation=inference_pb2.SEGMENTATION_SENTENCES
        ) == {"text": ("5 segments", f"1 segment, with options.{named}")}


async def test_a_single_sentence_goes_to_the_model_as_it_is(catalogue: Catalogue) -> None:
    for text in ("  one two ", "4", "one, two"):
        (segment,) = (await validated(catalogue, text=text)).segments
        assert (segment.begin, segment.end, bool(segment.source_ids)) == (0, len(text), True)


async def test_a_text_without_letters_or_digits_is_copied_unless_it_is_to_stay_whole(catalogue: Catalogue) -> None:
    for text in ("...", " !? "):
        (segment,) = (await validated(catalogue, text=text)).segments
        assert (text[segment.begin : segment.end], segment.source_ids) == (text, ())
    branching = inference_pb2.DecodingOptions(alternatives=2)
    as_it_is = (
        {"segmentation": inference_pb2.SEGMENTATION_NONE},
        {"options": inference_pb2.DecodingOptions(target_prefix="w")},
        {"options": branching, "segmentation": inference_pb2.SEGMENTATION_SENTENCES},
    )
    for given in as_it_is:
        (segment,) = (await validated(catalogue, text="...", **given)).segments
        assert segment.source_ids


async def test_priority_and_segmentation_have_their_ranges(catalogue: Catalogue) -> None:
    assert await faults(catalogue, priority=10, segmentation=3) == {
        "priority": ("10", "0 to 9"),
        "segmentation": ("3", "one of 0, 1, 2"),
    }


async def test_a_request_to_score_forces_its_target(catalogue: Catalogue) -> None:
    given = inference_pb2.ScoreRequest(text="where is it", target="wo ist es", target_language="de", priority=2)
    translation = await validate_score(given, catalogue, Recipes())
    prefix = (10, 10, 10, 3)
    assert only(translation) == (
        [4, 10, 10, 10, 3],
        DecodingOptions(max_length=4, prefix=prefix, forced=True),
    )
    assert translation.priority == 2


async def test_a_request_to_score_is_refused_with_all_faults(catalogue: Catalogue) -> None:
    given = inference_pb2.ScoreRequest(text=" ", target="w " * 20, target_language="fr", priority=11)
    with pytest.raises(InvalidArgument) as raised:
        await validate_score(given, catalogue, Recipes())
    found = {violation.field: violation.limit for violation in raised.value.violations}
    assert set(found) == {"text", "target", "target_language", "priority"}
    assert found["target"] == "at most 20 tokens, end-of-sentence included"


async def test_long_texts_are_tokenised_in_another_thread(catalogue: Catalogue, codec: WordCodec) -> None:
    await validated(catalogue, text="short")
    await validated(catalogue, text="l" + "o" * 4000 + "ng")
    assert codec.threads[0] == threading.get_ident()
    assert codec.threads[1] != threading.get_ident()


async def test_languages(catalogue: Catalogue) -> None:
    assert await faults(catalogue, target_language="") == {"target_language": ("''", "one of de, en")}
    assert await faults(catalogue, target_language="fr") == {"target_language": ("'fr'", "one of de, en")}
    assert await faults(catalogue, source_language="fr") == {"source_language": ("'fr'", "one of de, en, or empty")}
    assert set(await faults(catalogue, source_language="DE")) == {"source_language"}


async def test_everything_wrong_at_once_even_without_a_model(catalogue: Catalogue) -> None:
    assert set(await faults(catalogue, text="", model="../x")) == {"text", "model"}
    found = await faults(
        catalogue,
        text="w " * 9,
        segmentation=NONE,
        target_language="fr",
        source_language="xx",
        options=inference_pb2.DecodingOptions(max_length=0),
    )
    assert set(found) == {"text", "target_language", "source_language", "options.max_length"}


async def test_an_unknown_model(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match="no model 'fra-eng'; served are deu-eng"):
        await validated(catalogue, model="fra-eng")


def test_values_are_shortened_and_escaped() -> None:
    assert shortened("de\n\x1b[31m") == r"'de\n\x1b[31m'"
    assert len(shortened("x" * 10_000)) == 42
    assert shortened("ü") == r"'\xfc'"


def test_the_default_model() -> None:
    assert choose_default(["a"], None) == "a"
    assert choose_default(["z", "deu-eng", "a"], None) == "deu-eng"
    assert choose_default(["z", "a"], None) == "a"
    assert choose_default(["z", "a"], "z") == "z"
    with pytest.raises(SettingsError, match="default_model = b: one of a, z"):
        choose_default(["z", "a"], "b")
