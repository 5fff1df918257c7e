"""The models that continue and understand texts, served by a real process and used as their users would."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dragoman import AsyncClient, Client
from dragoman_server.inspection import checked_manifest
from tests.integration.server_process import SECONDS, ServerProcess

MODELS = Path(__file__).parents[2] / "models"
MOST_BYTES = {"deu-eng": 25_000_000, "intents": 12_000_000, "shakespeare": 12_000_000}
REQUESTS = {
    "move fifty euros from checking to savings": "transfer",
    "what will the weather be like tomorrow in paris": "weather",
    "set an alarm for seven in the morning": "alarm",
    "how do you say good evening in french": "translate",
}
PROMPTS = ["ROMEO:", "First Citizen:\n", "The king", "O, what a"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ServerProcess(MODELS) as process:
        process.wait_ready()
        yield process.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=SECONDS) as opened:
        yield opened


def metric(name: str, wanted: str) -> float:
    """What the bundle's certificate says of its int8 graphs."""
    certificate = checked_manifest(MODELS / name / "1").certificate
    (measured,) = (m for m in certificate.measurements if m.precision == "int8")
    return {each.name: each.value for each in measured.metrics}[wanted]


@pytest.mark.parametrize("name", sorted(MOST_BYTES))
def test_a_bundle_is_whole_explains_and_is_no_larger_than_it_may_be(name: str) -> None:
    manifest = checked_manifest(MODELS / name / "1")
    assert manifest.explain == "explain.onnx"
    assert manifest.certificate.attention.max_weight_difference <= 1e-5
    assert manifest.certificate.attention.max_padding_weight == 0.0
    files = [path for path in (MODELS / name / "1").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES[name]


def test_the_certificates_say_how_good_the_models_are() -> None:
    assert metric("shakespeare", "nats per character") <= 1.60
    assert metric("intents", "accuracy") >= 0.90
    assert metric("intents", "out-of-scope recall") >= 0.5


def generated(client: Client, number: int) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
    """A continuation, in a way of its own for each number; what was streamed must be what is said at the end."""
    ways: list[dict[str, Any]] = [
        {},
        {"temperature": 0.8, "top_p": 0.95, "seed": number},
        {"beam_size": 3},
        {"temperature": 1.1, "seed": number, "repetition_penalty": 1.2},
    ]
    options = ways[number % len(ways)]
    prompt = PROMPTS[number // len(ways) % len(PROMPTS)]
    chunks = list(client.generate(prompt, model="shakespeare", max_new_tokens=40, **options))
    answer = chunks[-1].answer
    assert answer is not None
    assert "".join(chunk.text for chunk in chunks) == answer.text
    best = answer.hypotheses[0]
    return best.text, best.tokens, best.token_log_probs


def test_32_continuations_together_are_those_alone(client: Client) -> None:
    alone = [generated(client, number) for number in range(32)]
    with ThreadPoolExecutor(32) as threads:
        together = list(threads.map(lambda number: generated(client, number), range(32)))
    assert together == alone
    assert len({text for text, _, _ in alone}) > 8


def test_a_text_goes_on_past_the_window(client: Client) -> None:
    (*_, last) = client.generate(
        "ROMEO:", model="shakespeare", max_new_tokens=400, context_overflow="slide", temperature=0.8, seed=1
    )
    assert last.answer is not None
    assert last.answer.usage.target_tokens == 400
    assert last.answer.finish_reason == "length"


def test_a_continuations_score_is_that_of_its_decoding(client: Client) -> None:
    (*_, last) = client.generate("First Citizen:", model="shakespeare", max_new_tokens=12)
    assert last.answer is not None
    scored = client.score("First Citizen:", last.answer.text, model="shakespeare")
    if scored.tokens == last.answer.tokens:  # a text may be spelt by other pieces than it was written with
        assert scored.score == pytest.approx(last.answer.score, abs=1e-4)
    assert scored.score < 0


async def test_requests_are_understood_and_the_twin_agrees(client: Client, address: str) -> None:
    async with AsyncClient(address, timeout=SECONDS) as twin:
        for text, intent in REQUESTS.items():
            found = client.classify(text, model="intents")
            assert found.label == intent, text
            assert (await twin.classify(text, model="intents")).labels == found.labels
    assert client.classify("the quick brown fox reads philosophy to a lamp post").out_of_scope is True


def test_labels_in_company_are_those_alone(client: Client) -> None:
    texts = [f"{text} {word}" for text in REQUESTS for word in ("please", "now", "", "if you can", "again and again")]
    alone = [client.classify(text, top_k=150).labels for text in texts]
    with ThreadPoolExecutor(20) as threads:
        together = list(threads.map(lambda text: client.classify(text, top_k=150).labels, texts))
    assert together == alone
    assert math.fsum(label.probability for label in alone[0]) == pytest.approx(1.0, abs=1e-4)


def test_masks_and_vectors(client: Client) -> None:
    (mask,) = client.fill_mask("what is the [MASK] like today", top_k=3).masks
    assert len(mask.candidates) == 3
    found = client.embed(["set an alarm for six", "wake me up at six", "how much money is in my account"])
    near, far = (sum(a * b for a, b in zip(found.vectors[0], other, strict=True)) for other in found.vectors[1:])
    assert near > far
    assert found.note


@pytest.mark.parametrize(
    ("named", "kinds"),
    [
        ({"target": "de"}, {"encoder_self", "decoder_self", "cross"}),
        ({"model": "shakespeare", "max_new_tokens": 8}, {"decoder_self"}),
        ({"model": "intents"}, {"encoder_self"}),
    ],
)
def test_every_family_explains_itself(client: Client, named: dict[str, Any], kinds: set[str]) -> None:
    found = client.explain("Where is the station?", **named)
    assert set(found.maps) == kinds
    for maps in found.maps.values():
        for layer in maps:
            for head in layer:
                assert all(math.fsum(row) == pytest.approx(1.0, abs=1e-5) for row in head)


def test_cards_and_bundles_are_of_the_same_figures() -> None:
    bundle = json.loads((MODELS / "shakespeare" / "1" / "bundle.json").read_text(encoding="utf-8"))
    card = (MODELS.parent / "docs" / "models" / "shakespeare.md").read_text(encoding="utf-8")
    for measured in bundle["certificate"]["measurements"]:
        assert f"{measured['metrics'][0]['value']:.4f}" in card
