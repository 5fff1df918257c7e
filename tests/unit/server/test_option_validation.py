from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.service.option_limits import merged, option_violations
from tests.unit.server.validating import (
    WordCodec,
    faults,
    make_catalogue,
    resolved,
)


@pytest.fixture
def codec() -> WordCodec:
    return WordCodec()


@pytest.fixture
def catalogue(codec: WordCodec) -> Catalogue:
    return make_catalogue(codec)


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
    ({"beam_size": 20, "temperature": 1}, {"beam_size"}),
    ({"alternatives": 2, "top_p": 0.5}, {"alternatives"}),
    ({"alternatives": 2, "num_hypotheses": 2}, {"alternatives"}),
    ({"alternatives": 2, "num_hypotheses": 99}, {"alternatives", "num_hypotheses"}),
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


def test_a_width_is_told_all_that_is_wrong_with_it() -> None:
    options = inference_pb2.DecodingOptions(beam_size=20, temperature=1)
    found = option_violations(options, bundle_pb2.Limits(target_tokens=15), 4)
    assert [(fault.field, fault.value) for fault in found] == [("options.beam_size", "20")] * 2
    assert found[0].limit == "1 to 4"
    assert found[1].limit.startswith("1, where any of temperature")
