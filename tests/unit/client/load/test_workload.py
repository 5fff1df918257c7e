"""Workloads: the same seed asks the same, shares change over a day, and every request can be read."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from dragoman import InvalidArgument
from dragoman.load import texts
from dragoman.load.queries import CLASSIFY, GENERATE, STREAM, TRANSLATE, Call, Query
from dragoman.load.workload import DAY, KINDS, WORKLOADS, Workload, workload
from dragoman.values import Model
from dragoman_protos.v1 import inference_pb2


def model(name: str, *tasks: str, languages: tuple[str, ...] = (), default: bool = False) -> Model:
    return Model(name, "1", "", tasks, languages, "int8", "", 1, 8, default)


MODELS = [
    model("intents", "classify", "embed"),
    model("deu-eng", "translate", languages=("en", "de"), default=True),
    model("shakespeare", "generate"),
]


def made(name: str, seed: int = 1, size: int = 30) -> Workload:
    return workload(name, MODELS, seed=seed, size=size)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_says_everything(name: str) -> None:
    assert made(name) == made(name)
    assert made(name) != made(name, seed=2)
    one, other = ([made(name).draw(chance, 0.3) for _ in range(50)] for chance in (Random(5), Random(5)))
    assert one == other


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_request_can_be_read(name: str) -> None:
    readers: dict[Call, type[Message]] = {
        TRANSLATE: inference_pb2.TranslateRequest,
        STREAM: inference_pb2.TranslateRequest,
        GENERATE: inference_pb2.GenerateRequest,
        CLASSIFY: inference_pb2.ClassifyRequest,
    }
    for query in made(name).queries():
        message = readers[query.call].FromString(query.message)
        assert getattr(message, "text", "") or getattr(message, "prompt", "")
        assert getattr(message, "target_language", "de") == "de"


def test_each_kind_has_its_lengths() -> None:
    def words(name: str) -> list[int]:
        return [len(inference_pb2.TranslateRequest.FromString(q.message).text.split()) for q in made(name).queries()]

    assert max(words("short")) <= 21 < max(words("mixed"))
    assert min(words("document")) > 25
    assert len(made("document", size=30).pools["document"]) == 10


def test_half_of_the_prompts_are_sampled_each_with_its_seed() -> None:
    found = [inference_pb2.GenerateRequest.FromString(q.message) for q in made("generate", size=120).pools["generate"]]
    sampled = [message for message in found if message.options.HasField("temperature")]
    assert 0 < len(sampled) < len(found)
    assert all(message.options.HasField("seed") for message in sampled)


def test_texts_of_ones_own_are_asked_about() -> None:
    lines = ["Eins.", "Zwei."]
    found = workload("mixed", MODELS, seed=1, size=20, target="en", lines=lines)
    messages = [inference_pb2.TranslateRequest.FromString(query.message) for query in found.queries()]
    assert {message.text for message in messages} == set(lines)
    assert {message.target_language for message in messages} == {"en"}


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InvalidArgument, match=r"'night'.*short, mixed"):
        made("night")
    with pytest.raises(InvalidArgument, match="no model that can: classify, generate"):
        workload("day", [MODELS[1]], seed=1, size=3)
    loading = Model(**{**{name: getattr(MODELS[1], name) for name in Model.__slots__}, "state": "loading"})
    with pytest.raises(InvalidArgument, match="translate"):
        workload("short", [loading], seed=1, size=3)


def test_a_day_has_its_hours() -> None:
    day = made("day")
    assert day.peak == 1.6
    phases = [place / 1000 for place in range(1000)]
    assert sum(map(day.intensity, phases)) / len(phases) == pytest.approx(1.0, abs=0.002)
    for hour in DAY:
        assert day.intensity(hour.phase) == pytest.approx(hour.intensity)
        assert day.shares(hour.phase) == pytest.approx(hour.shares)
    assert day.intensity(0.125) == pytest.approx(0.8)
    assert day.shares(0.875)["document"] == pytest.approx(2.5)  # half way from evening to night
    drawn = {phase: Counter(_kinds(day, phase)) for phase in (0.0, 0.5)}
    assert drawn[0.0]["document"] > 4 * drawn[0.5]["document"]
    assert set(drawn[0.0]) == set(KINDS)


def _kinds(day: Workload, phase: float) -> list[str]:
    chance = Random(3)
    return [day.draw(chance, phase).kind for _ in range(2000)]


@given(st.floats(0, 1, exclude_max=True))
def test_between_two_hours_everything_lies_between_them(phase: float) -> None:
    day = Workload("day", {kind: [Query(kind, TRANSLATE, b"")] for kind in KINDS}, DAY)
    assert min(h.intensity for h in DAY) - 1e-9 <= day.intensity(phase) <= day.peak + 1e-9
    for kind, share in day.shares(phase).items():
        known = [hour.shares[kind] for hour in DAY]
        assert min(known) - 1e-9 <= share <= max(known) + 1e-9


@given(st.integers(0, 10_000), st.integers(4, 40))
def test_sentences_are_about_as_long_as_they_should_be(seed: int, words: int) -> None:
    written = texts.sentence(Random(seed), words)
    assert words - 3 <= len(written.split()) <= words + 14
    assert written[0].isupper()
    assert written.endswith(".")
