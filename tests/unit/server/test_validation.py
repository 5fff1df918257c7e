from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.errors import InvalidArgument, NotFound
from dragoman_server.model_host import ModelHost
from dragoman_server.request import Request
from dragoman_server.service.option_limits import merged
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.texts import shortened
from dragoman_server.service.translations import Translation
from dragoman_server.service.validation import text_violations, validate_score, validate_translate
from dragoman_server.settings import SettingsError

NONE = inference_pb2.SEGMENTATION_NONE
DEFAULTS = inference_pb2.DecodingOptions(max_length=15)


class WordCodec:
    """One token per word; remembers in which threads it worked."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def encode(self, text: str) -> list[int]:
        self.threads.append(threading.get_ident())
        return [10] * len(text.split())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [found.span() for found in re.finditer(r"\S+", text)]

    def spellings(self, phrase: str) -> list[list[int]]:
        return [self.encode(phrase)]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        return " ".join(words.get(place, str(token_id)) for place, token_id in enumerate(ids))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [str(token_id) for token_id in ids]


class NoEngine:
    """Validation submits nothing."""

    def start(self) -> None: ...

    def submit(self, request: Request) -> None:
        raise AssertionError

    def stop(self, grace: float) -> None: ...


@pytest.fixture
def codec() -> WordCodec:
    return WordCodec()


@pytest.fixture
def catalogue(codec: WordCodec) -> Catalogue:
    bundle = bundle_pb2.Bundle(
        name="deu-eng",
        languages=[bundle_pb2.Language(code="de", tag_id=4), bundle_pb2.Language(code="en", tag_id=5)],
        special_ids=bundle_pb2.SpecialIds(unk=1, eos=3),
        limits=bundle_pb2.Limits(source_tokens=10, target_tokens=20),
    )
    host = ModelHost(bundle, "1", codec, NoEngine(), "int8", "CPUExecutionProvider", 1, 4, DEFAULTS, 5000)
    return Catalogue([host], "deu-eng")


def request(**fields: object) -> inference_pb2.TranslateRequest:
    given = {"text": "where is it", "target_language": "de"} | fields
    return inference_pb2.TranslateRequest(**given)  # type: ignore[arg-type]


async def validated(catalogue: Catalogue, **fields: object) -> Translation:
    return await validate_translate(request(**fields), catalogue, Recipes())


def only(translation: Translation) -> tuple[list[int], DecodingOptions]:
    """Source ids and options of the one segment."""
    (segment,) = translation.segments
    assert segment.options is not None
    return list(segment.source_ids), segment.options


async def faults(catalogue: Catalogue, **fields: object) -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidArgument) as raised:
        await validated(catalogue, **fields)
    return {violation.field: (violation.value, violation.limit) for violation in raised.value.violations}


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
            f"options.{named}": ("with 2 segments", "only with a text of one segment")
        }


async def test_a_single_sentence_goes_to_the_model_as_it_is(catalogue: Catalogue) -> None:
    for text in ("  one two ", "...", "one, two"):
        (segment,) = (await validated(catalogue, text=text)).segments
        assert (segment.begin, segment.end, bool(segment.source_ids)) == (0, len(text), True)


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


async def resolved(catalogue: Catalogue, **options: object) -> DecodingOptions:
    given = inference_pb2.DecodingOptions(**options)  # type: ignore[arg-type]
    return only(await validated(catalogue, options=given))[1]


async def test_options_are_resolved(catalogue: Catalogue) -> None:
    options = await resolved(
        catalogue,
        max_length=12,
        min_length=2,
        max_length_ratio=3,
        beam_size=4,
        num_hypotheses=3,
        length_penalty=0.5,
        coverage_penalty=0.5,
        replace_unknowns=True,
        length_normalisation=inference_pb2.LENGTH_NORMALISATION_WU,
        patience=2,
        early_stopping=True,
        repetition_penalty=2,
        presence_penalty=-1,
        frequency_penalty=1.5,
        no_repeat_ngram_size=3,
        banned_words=["no way", "never"],
        allowed_words=["so"],
        target_prefix="well then",
        stop=["."],
    )
    assert options.stop is not None
    assert options.stop.strings == (".",)
    assert replace(options, stop=None) == DecodingOptions(
        max_length=9,  # three tokens of text
        min_length=2,
        beam_size=4,
        num_hypotheses=3,
        length_penalty=LengthPenalty(0.5, wu=True),
        coverage_penalty=0.5,
        with_attention=True,
        patience=2,
        early_stopping=True,
        repetition_penalty=2,
        presence_penalty=-1,
        frequency_penalty=1.5,
        no_repeat_ngram_size=3,
        banned=((10, 10), (10,)),
        allowed=(10,),
        prefix=(10, 10),
    )


@pytest.mark.parametrize("field", ["temperature", "top_k", "top_p", "min_p", "typical_p"])
async def test_any_sampling_field_asks_for_sampling(catalogue: Catalogue, field: str) -> None:
    options = await resolved(catalogue, **{field: 1, "num_hypotheses": 3, "seed": 2**64 - 1})
    assert options.sampling is not None
    assert options.sampling.seed == 2**64 - 1
    assert (options.num_hypotheses, options.width) == (3, 3)
    assert getattr(options.sampling, field) == 1


async def test_without_a_seed_one_is_drawn(catalogue: Catalogue) -> None:
    seeds = set()
    for _ in range(3):
        sampling = (await resolved(catalogue, temperature=1)).sampling
        assert sampling is not None
        seeds.add(sampling.seed)
    assert len(seeds) == 3


RANGES: list[tuple[str, list[object], list[object], str]] = [
    ("min_length", [0, 14], [15, 4294967295], "0 to 14 tokens, fewer than max_length"),
    ("max_length_ratio", [0.01, 16], [0, 16.1, -1, math.nan, math.inf], "more than 0, at most 16"),
    ("min_length_ratio", [0.01, 16], [0, 16.1, -1, math.nan, math.inf], "more than 0, at most 16"),
    ("beam_size", [1, 4], [0, 5, 17], "1 to 4"),  # a lane of the model has four rows
    ("num_hypotheses", [1], [0, 2], "1 to beam_size, 1"),
    ("length_penalty", [0, 5], [-0.1, 5.1, math.nan], "0 to 5"),
    ("coverage_penalty", [0, 5], [-0.1, 5.1, math.nan], "0 to 5"),
    ("length_normalisation", [0, 1], [2], "one of 0, 1"),
    ("patience", [0.1, 8], [0, 8.1, math.nan], "more than 0, at most 8"),
    ("temperature", [0.01, 10], [0, 10.1, math.nan], "more than 0, at most 10"),
    ("top_k", [1, 1000], [0, 1001], "1 to 1000"),
    ("top_p", [0.01, 1], [0, 1.1, math.nan], "more than 0, at most 1"),
    ("min_p", [0, 1], [-0.1, 1.1, math.nan], "0 to 1"),
    ("typical_p", [0.01, 1], [0, 1.1, math.nan], "more than 0, at most 1"),
    ("repetition_penalty", [0.1, 10], [0, 10.1, math.nan], "0.1 to 10"),
    ("presence_penalty", [-2, 2], [-2.1, 2.1, math.nan], "-2 to 2"),
    ("frequency_penalty", [-2, 2], [-2.1, 2.1, math.nan], "-2 to 2"),
    ("no_repeat_ngram_size", [0, 32], [33], "0 to 32"),
    ("alternatives", [2, 4], [0, 1, 5], "2 to 4"),
    ("target_prefix", ["w " * 14], ["w " * 15], "at most 14 tokens, fewer than max_length"),
    ("target_prefix", ["w"], ["a\0b"], "text without NUL or lone surrogates"),
    ("target_prefix", ["w" * 5000], ["w" * 5001], "at most 5000 characters"),
]


@pytest.mark.parametrize(("field", "good", "bad", "limit"), RANGES)
async def test_ranges(catalogue: Catalogue, field: str, good: list[object], bad: list[object], limit: str) -> None:
    for value in good:
        await resolved(catalogue, **{field: value})
    for value in bad:
        options = inference_pb2.DecodingOptions(**{field: value})  # type: ignore[arg-type]
        found = await faults(catalogue, options=options)
        assert {name: fault[1] for name, fault in found.items()} == {f"options.{field}": limit}


@pytest.mark.parametrize(("field", "most"), [("banned_words", 64), ("allowed_words", 1024), ("stop", 16)])
async def test_lists_of_strings(catalogue: Catalogue, field: str, most: int) -> None:
    await resolved(catalogue, **{field: ["w" * 100] * most})
    options = inference_pb2.DecodingOptions(**{field: ["w"] * (most + 1)})  # type: ignore[arg-type]
    assert await faults(catalogue, options=options) == {
        f"options.{field}": (f"{most + 1} strings", f"at most {most}"),
    }
    options = inference_pb2.DecodingOptions(**{field: ["fine", "", "w" * 101, "\0"]})  # type: ignore[arg-type]
    assert await faults(catalogue, options=options) == {
        f"options.{field}[1]": ("empty", "1 to 100 characters"),
        f"options.{field}[2]": ("101 characters", "1 to 100 characters"),
        f"options.{field}[3]": ("NUL at character 1", "text without NUL or lone surrogates"),
    }


EXCLUSIONS: list[tuple[dict[str, object], set[str]]] = [
    ({"beam_size": 2, "temperature": 1}, {"beam_size"}),
    ({"beam_size": 2, "num_hypotheses": 3}, {"num_hypotheses"}),
    ({"num_hypotheses": 5, "top_k": 3}, {"num_hypotheses"}),
    ({"alternatives": 2, "top_p": 0.5}, {"alternatives"}),
    ({"alternatives": 2, "beam_size": 3}, {"alternatives"}),
    ({"alternatives": 2, "beam_size": 3, "num_hypotheses": 2}, {"alternatives"}),
    ({"max_length_ratio": 1, "min_length_ratio": 2}, {"min_length_ratio"}),
    ({"max_length": 3, "min_length": 3}, {"min_length"}),
    ({"max_length": 3, "target_prefix": "a b c"}, {"target_prefix"}),
    ({"max_length_ratio": 1, "target_prefix": "a b c"}, {"target_prefix"}),
    ({"stop": ["x", "b"], "target_prefix": "a b c"}, {"stop[1]"}),
    ({"beam_size": 99, "max_length": 0, "top_p": 7, "stop": [""]}, {"beam_size", "max_length", "top_p", "stop[0]"}),
]


@pytest.mark.parametrize(("options", "fields"), EXCLUSIONS)
async def test_exclusions_and_all_faults_at_once(
    catalogue: Catalogue, options: dict[str, object], fields: set[str]
) -> None:
    found = await faults(catalogue, options=inference_pb2.DecodingOptions(**options))  # type: ignore[arg-type]
    assert set(found) == {f"options.{field}" for field in fields}


def test_what_is_given_outranks_the_defaults_and_drops_those_that_it_excludes() -> None:
    defaults = inference_pb2.DecodingOptions(
        beam_size=4, num_hypotheses=3, length_penalty=0.6, stop=["a", "b"], max_length=50
    )

    def merge(**given: object) -> inference_pb2.DecodingOptions:
        return merged(defaults, inference_pb2.DecodingOptions(**given))  # type: ignore[arg-type]

    assert merge() == defaults
    assert merge(beam_size=2).num_hypotheses == 0
    assert merge(num_hypotheses=2).beam_size == 4
    assert list(merge(stop=["c"]).stop) == ["c"]
    assert merge(max_length=3).max_length == 3
    for given in ({"temperature": 1.0}, {"alternatives": 2}):
        result = merge(**given)
        assert not result.HasField("beam_size")
        assert not result.HasField("num_hypotheses")
        assert result.length_penalty == defaults.length_penalty
    sampling = inference_pb2.DecodingOptions(temperature=1, top_k=4, num_hypotheses=2)
    searching = merged(sampling, inference_pb2.DecodingOptions(beam_size=3))
    assert searching == inference_pb2.DecodingOptions(beam_size=3)
