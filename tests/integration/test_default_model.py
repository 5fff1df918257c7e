"""The model that ships with the repository, served by a real process and used as its users would."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dragoman import AsyncClient, Client, InvalidArgument, Translation
from tests.integration.sentences import sentences
from tests.integration.server_process import SECONDS, ServerProcess

MODELS = Path(__file__).parents[2] / "models"
DRAGOMAN = [sys.executable, "-c", "from dragoman.cli.main import main; main()"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(MODELS) as process:
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def address(server: ServerProcess) -> str:
    return server.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=SECONDS) as opened:
        yield opened


def answer(translation: Translation) -> tuple[str, tuple[str, ...], tuple[float, ...], str]:
    best = translation.hypotheses[0]
    return best.text, best.tokens, best.token_log_probs, best.finish_reason


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        ("Where is the station?", "de", ["wo", "bahnhof"]),
        ("Wo ist der Bahnhof?", "en", ["where", "station"]),
        ("I have two brothers and a sister.", "de", ["zwei", "brüder", "schwester"]),
        ("Das Wetter ist heute schön.", "en", ["weather", "today"]),
    ],
)
def test_translates_both_ways(client: Client, text: str, target: str, words: list[str]) -> None:
    translation = client.translate(text, target=target)
    assert all(word in translation.text.lower() for word in words), translation.text
    assert translation.finish_reason == "stop"
    assert translation.receipt.precision == "int8"
    assert translation.receipt.steps == translation.usage.target_tokens


def test_64_threads_get_exactly_what_one_client_got_alone(client: Client) -> None:
    texts = sentences(2000)
    alone = [answer(client.translate(text, target="de")) for text in texts]
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(lambda text: client.translate(text, target="de"), texts))
    different = [t for t, a, b in zip(texts, alone, together, strict=True) if a != answer(b)]
    assert not different
    batched = sum((t.receipt.batch_mean or 0) > 4 for t in together)
    assert batched > 1000, "the requests did not share batches, so nothing was shown"


async def test_the_asyncio_client_gets_the_same(client: Client, address: str) -> None:
    texts = sentences(60, seed=2)
    blocking = [answer(t) for t in client.translate_many(texts, target="de")]
    async with AsyncClient(address, timeout=SECONDS) as twin:
        assert [answer(t) async for t in twin.translate_many(texts, target="de")] == blocking
        one_by_one = await asyncio.gather(*(twin.translate(text, target="de") for text in texts))
    assert [answer(t) for t in one_by_one] == blocking


def test_models_are_described(client: Client) -> None:
    assert [model.name for model in client.models()] == ["deu-eng", "intents", "shakespeare"]
    (model,) = (model for model in client.models() if model.default)
    assert (model.name, model.version, model.default) == ("deu-eng", "1", True)
    assert sorted(model.languages) == ["de", "en"]
    bundle = client.model("deu-eng").bundle
    assert bundle.provenance.licence
    assert bundle.certificate.measurements


def test_odd_texts_are_answered_or_refused_with_a_reason(client: Client) -> None:
    for text in ("?", "ÄÖÜ ß", "Hello 👋🏽 world", "a" * 60, "</s> <2de>", "مرحبا", "e\u0301", "x\u200by", "1 + 1 = 2"):
        assert client.translate(text, target="de").hypotheses
    with pytest.raises(InvalidArgument) as caught:
        client.translate("word " * 3000, target="xx", max_length=100_000, segmentation="none")
    assert {v.field for v in caught.value.violations} == {"text", "target_language", "options.max_length"}


def test_the_command_line_is_a_filter(address: str) -> None:
    texts = ["Good morning.", "", "Thank you very much!"]
    command = [*DRAGOMAN, "translate", "--target", "de", "--server", address]
    done = subprocess.run(
        command, input="\n".join(texts) + "\n", capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "morgen" in lines[0].lower()
    assert lines[1] == ""
    assert "dank" in lines[2].lower()
    again = subprocess.run([*command, "--json", texts[0]], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(again.stdout)["text"] == lines[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_resident_memory_stays_below_400_mb(server: ServerProcess, client: Client) -> None:
    list(client.translate_many(sentences(200, seed=3), target="de"))
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib < 400 * 1024


def test_streamed_and_among_many_is_as_alone(client: Client) -> None:
    texts = sentences(100, seed=3)
    alone = [client.translate(text, target="de") for text in texts]
    many = list(client.translate_many(texts, target="de"))
    assert [answer(t) for t in many] == [answer(t) for t in alone]
    for text, translation in zip(texts[:30], alone, strict=False):
        chunks = list(client.stream_translate(text, target="de", beam_size=1))
        for before, after in itertools.pairwise(chunks):
            assert after.final_text.startswith(before.final_text)
        last = chunks[-1].translation
        assert last is not None
        assert answer(last) == answer(translation)


def test_the_score_of_what_was_found_is_what_it_was_found_with(client: Client) -> None:
    compared = 0
    for text in sentences(40, seed=4):
        found = client.translate(text, target="de")
        if found.finish_reason != "stop":  # with its end-of-sentence it would be too long
            continue
        told = client.score(text, found.text, target="de")
        assert told.score <= 0
        if told.tokens == found.tokens:  # most texts have one way to be spelled
            assert told.token_log_probs == pytest.approx(found.hypotheses[0].token_log_probs, abs=2e-3)
            compared += 1
    assert compared > 20


def test_a_page_keeps_its_lines(client: Client) -> None:
    page = "Where is the station? It rains.\n\n  - I am at home.\n  - ***\n\nThank you!\n"
    translation = client.translate(page, target="de", source="en")
    alone = [client.translate(page[s.source_begin : s.source_end], target="de").text for s in translation.segments]
    assert [page[s.source_begin : s.source_end] for s in translation.segments if s.copied] == ["- ***"]
    assert translation.text.count("\n") == page.count("\n")
    assert translation.text.startswith("{} {}\n\n  ".format(*alone[:2]))
    assert translation.text.endswith(f"\n  - ***\n\n{alone[-1]}\n")
