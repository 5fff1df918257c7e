"""Text that no keyboard makes, through tokeniser, model and back: the shipped models, as callers reach them."""

# ruff: noqa: RUF001  (letters that look like others are what is tested)

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dragoman import Client, InvalidArgument
from dragoman_server.settings import Settings
from dragoman_server.tokenization import TextCodec
from tests.contract.running import Running, serving

MODELS = Path(__file__).parents[2] / "models"
PLANES = 17

TORTURE = {
    "combining marks": "e\u0301\u0302\u0303" * 12,
    "a grapheme of 400 marks": "Z" + "\u0335\u0316\u0359" * 133,
    "marks alone": "\u0301\u0308\u0327",
    "composed": "Ünïcödé für Möwen",
    "decomposed": unicodedata.normalize("NFD", "Ünïcödé für Möwen"),
    "compatibility": "ﬁ Ⅷ ㎏ ﷺ ｈａｌｆ ½",
    "hangul": "한국어 \u1112\u1161\u11ab",
    "a family of emoji": "👨\u200d👩\u200d👧\u200d👦 👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 🇩🇪🇬🇧",
    "joiners alone": "\u200d\u200c\u2060\ufeff",
    "right to left": "שלום עולם مرحبا بالعالم",
    "overrides": "\u202eabc\u202c \u2066def\u2069 \u200e\u200f",
    "overrides without an end": "\u202e\u202d\u2067 where is it?",
    "a byte order mark first": "\ufeffWhere is the station?",
    "a byte order mark inside": "Where\ufeff is the station?",
    "bytes of a surrogate": "\u00ed\u00a0\u0080\u00ed\u00b0\u0080",
    "replacement characters": "\ufffd\ufffd where \ufffd",
    "no characters": "\ufffe\uffff\ufdd0 \U0001ffff \U0010ffff",
    "private use": "\ue000 \uf8ff \U000f0000 \U0010fffd",
    "tags": "\U000e0001\U000e0041\U000e007f flag",
    "variation selectors": "a\ufe00b\ufe0fc\U000e0100",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\x9f",
    "one control character": "\x01",
    "escape sequences": "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "line separators": "one\u2028two\u2029three\x0bfour\x0cfive\x85six\r\nseven\rnine",
    "white space": "\u00a0\u1680\u2003\u202f\u205f\u3000x\u00a0",
    "digits of scripts": "١٢٣ १२३ 𝟙𝟚𝟛 ⑫ 一二三",
    "letters of mathematics": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕋𝕖𝕩𝕥 𝓯𝓸𝓻",
    "no spaces": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "case that changes lengths": "ßẞ İı ŉ ǰ ΐ ﬀ",
    "old scripts": "𐤀𐤁𐤂 𓂀𓃰 𒀀𒁀 𐎀 ᚠᚢᚦ",
    "special tokens": "<s></s><pad><unk><2de><2en>[CLS][SEP][MASK][PAD]",
    "byte-level letters": "ĠĊĉ ĠtheĠ Ā",
    "a long word": "x" * 300,
    "a long line of marks": "\u0300" * 500,
    "nul": "where\0is it",
    "a lone surrogate": "where \ud800 is it",
    "blank": " \u2003\n",
    "empty": "",
}
REFUSED = {"nul", "a lone surrogate", "blank", "empty"}
"""By the translator; a generator takes what is blank or empty."""


def plane(number: int) -> str:
    """Characters from all over a plane of Unicode, whether they are assigned or not."""
    chance = random.Random(number)
    points = [chance.randrange(number << 16, (number + 1) << 16) for _ in range(40)]
    return "".join(chr(point) for point in points if point and not 0xD800 <= point < 0xE000)


TEXTS = TORTURE | {f"plane {number}": plane(number) for number in range(PLANES)}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(Settings(port=0, models=MODELS, default_model="deu-eng", lanes=1, max_rows=16)) as found:
        yield found


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Client]:
    with Client(running.address, timeout=120) as opened:
        yield opened


def outcome(call: Callable[[], str]) -> str:
    """The text, which is UTF-8; or the fields for which there is none, each with what is allowed."""
    try:
        text = call()
    except InvalidArgument as error:
        refused = error
    else:
        assert text.encode("utf-8").decode("utf-8") == text
        return text
    assert refused.violations
    assert all(violation.limit for violation in refused.violations)
    return "refused: " + ", ".join(sorted({violation.field for violation in refused.violations}))


@pytest.fixture(scope="module")
def translated(client: Client) -> dict[str, str]:
    """What each text is by itself."""

    def unary(text: str) -> str:
        return client.translate(text, target="de", max_length=12).text

    return {name: outcome(partial(unary, text)) for name, text in TEXTS.items()}


@pytest.mark.parametrize("name", TEXTS)
def test_a_translation_is_text_or_a_stated_refusal(client: Client, translated: dict[str, str], name: str) -> None:
    def streamed() -> str:
        *_, last = client.stream_translate(TEXTS[name], target="de", max_length=12)
        assert last.translation is not None
        assert last.translation.text == last.final_text
        return last.final_text

    assert outcome(streamed) == translated[name]
    assert (translated[name] == "refused: text") == (name in REFUSED)


def test_many_at_once_are_as_each_by_itself(client: Client, translated: dict[str, str]) -> None:
    names = [name for name in TEXTS if name not in REFUSED]
    together = client.translate_many([TEXTS[name] for name in names], target="de", max_length=12)
    assert [found.text for found in together] == [translated[name] for name in names]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_goes_on_as_text_or_is_refused(client: Client, name: str) -> None:
    def generated() -> str:
        *_, last = client.generate(TEXTS[name], model="shakespeare", max_new_tokens=8, context_overflow="slide")
        assert last.answer is not None
        assert last.answer.text == last.final_text
        return last.final_text

    assert (outcome(generated) == "refused: prompt") == (name in {"nul", "a lone surrogate"})


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_classified_or_refused(client: Client, name: str) -> None:
    text = TEXTS[name][:8]  # as many bytes as the model surely has tokens for

    def classified() -> str:
        labels = client.classify(text, model="intents").labels
        assert all(0 <= label.probability <= 1 for label in labels)
        return labels[0].label

    assert (outcome(classified) == "refused: text") == (name in REFUSED)


@pytest.fixture(scope="module")
def codecs() -> dict[str, TextCodec]:
    return {
        name: TextCodec(Tokenizer.from_file(str(MODELS / name / "1" / "tokenizer.json")), tags={}, eos=0)
        for name in ("deu-eng", "shakespeare")
    }


def assert_round_trip(codec: TextCodec, text: str) -> None:
    """Byte-level vocabularies lose nothing but what NFC makes one, and a space before the first word."""
    ids = codec.encode(text)
    back = codec.decode(ids)
    assert unicodedata.normalize("NFC", back).removeprefix(" ") == unicodedata.normalize("NFC", text).removeprefix(" ")
    assert codec.decode(codec.encode(back)).removeprefix(" ") == back.removeprefix(" ")


@pytest.mark.parametrize("model", ["deu-eng", "shakespeare"])
def test_every_text_comes_back_from_its_tokens(codecs: dict[str, TextCodec], model: str) -> None:
    for name, text in TEXTS.items():
        if name != "a lone surrogate":
            assert_round_trip(codecs[model], text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_from_its_tokens(codecs: dict[str, TextCodec], text: str) -> None:
    for codec in codecs.values():
        assert_round_trip(codec, text)
