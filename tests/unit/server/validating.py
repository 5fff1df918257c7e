"""A model of words, and requests to it that are validated: what comes of them, or their faults."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence

import pytest

from dragoman_protos.v1 import bundle_pb2, inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument
from dragoman_server.lanes import EngineState
from dragoman_server.request import Request
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.translations import Translation
from dragoman_server.service.validation import validate_translate
from dragoman_server.translation_host import TranslationHost

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

    def state(self) -> EngineState:
        raise AssertionError

    def stop(self, grace: float) -> None: ...


def make_catalogue(codec: WordCodec) -> Catalogue:
    """One model of German and English, with short limits."""
    bundle = bundle_pb2.Bundle(
        name="deu-eng",
        tasks=[bundle_pb2.Bundle.TASK_TRANSLATE],
        languages=[bundle_pb2.Language(code="de", tag_id=4), bundle_pb2.Language(code="en", tag_id=5)],
        special_ids=bundle_pb2.SpecialIds(unk=1, eos=3),
        limits=bundle_pb2.Limits(source_tokens=10, target_tokens=20),
    )
    host = TranslationHost(
        bundle=bundle,
        version="1",
        codec=codec,
        engine=NoEngine(),
        precision="int8",
        provider="CPUExecutionProvider",
        lanes=1,
        max_rows=4,
        default_options=DEFAULTS,
        longest_text=5000,
    )
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


async def resolved(catalogue: Catalogue, **options: object) -> DecodingOptions:
    given = inference_pb2.DecodingOptions(**options)  # type: ignore[arg-type]
    return only(await validated(catalogue, options=given))[1]
