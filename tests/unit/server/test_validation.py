from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument, NotFound
from dragoman_server.model_host import ModelHost
from dragoman_server.request import Request
from dragoman_server.service.texts import shortened
from dragoman_server.service.validation import text_violations, validate_translate
from dragoman_server.settings import SettingsError

DEFAULTS = inference_pb2.DecodingOptions(max_length=15)


class WordCodec:
    """One token per word; remembers in which threads it worked."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def encode(self, text: str) -> list[int]:
        self.threads.append(threading.get_ident())
        return [10] * len(text.split())

    def spellings(self, phrase: str) -> list[list[int]]:
        return [self.encode(phrase)]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

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
        special_ids=bundle_pb2.SpecialIds(eos=3),
        limits=bundle_pb2.Limits(source_tokens=10, target_tokens=20),
    )
    host = ModelHost(bundle, "1", codec, NoEngine(), "int8", "CPUExecutionProvider", 1, 4, DEFAULTS, longest_text=5000)
    return Catalogue([host], "deu-eng")


def request(**fields: object) -> inference_pb2.TranslateRequest:
    given = {"text": "where is it", "target_language": "de"} | fields
    return inference_pb2.TranslateRequest(**given)  # type: ignore[arg-type]


async def faults(catalogue: Catalogue, **fields: object) -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidArgument) as raised:
        await validate_translate(request(**fields), catalogue)
    return {violation.field: (violation.value, violation.limit) for violation in raised.value.violations}


async def test_a_good_request(catalogue: Catalogue) -> None:
    translation = await validate_translate(request(source_language="en", model="deu-eng"), catalogue)
    assert translation.source_ids == [4, 10, 10, 10, 3]
    assert translation.options == DecodingOptions(max_length=15)
    assert translation.host.name == "deu-eng"


@pytest.mark.parametrize("length", [1, 20])
async def test_max_length_in_range(catalogue: Catalogue, length: int) -> None:
    options = inference_pb2.DecodingOptions(max_length=length)
    assert (await validate_translate(request(options=options), catalogue)).options.max_length == length


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
    assert len((await validate_translate(request(text="w " * 8), catalogue)).source_ids) == 10
    value, limit = (await faults(catalogue, text="w " * 9))["text"]
    assert value == "11 tokens"
    assert limit.startswith("at most 10 tokens")


async def test_an_endless_text_is_never_tokenised(catalogue: Catalogue, codec: WordCodec) -> None:
    assert await faults(catalogue, text="w" * 5001) == {
        "text": ("5001 characters", "at most 5000 characters, and 10 tokens")
    }
    assert codec.threads == []


async def test_long_texts_are_tokenised_in_another_thread(catalogue: Catalogue, codec: WordCodec) -> None:
    await validate_translate(request(text="short"), catalogue)
    await validate_translate(request(text="l" + "o" * 4000 + "ng"), catalogue)
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
        target_language="fr",
        source_language="xx",
        options=inference_pb2.DecodingOptions(max_length=0),
    )
    assert set(found) == {"text", "target_language", "source_language", "options.max_length"}


async def test_an_unknown_model(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match="no model 'fra-eng'; served are deu-eng"):
        await validate_translate(request(model="fra-eng"), catalogue)


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
