"""What the graph's attention decides, from the wire to the wire: unknown words and the coverage penalty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from dragoman import Client
from dragoman_server.bundle import load_bundle
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.settings import Settings
from tests.contract.running import serving
from tests.unit.server import tiny

TEXTS = [
    "Tomaten und Bohnen",
    "The green bicycle lies below",
    "Niemand wohnt hinter dem Hafen",
    "beans , harbour ; sister !",
    "Meine Schwester sieht heute das Fahrrad",
    "Nobody grows tomatoes behind the old town",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny" / "1", unknown=4.0)


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    settings = Settings(port=0, models=bundle.parent.parent, precision="fp32", lanes=1, max_rows=8)
    with serving(settings) as running, Client(running.address) as found:
        yield found


def attended(bundle: Path, source: Sequence[int], fed: Sequence[int]) -> npt.NDArray[np.float32]:
    """Step by step and alone: (tokens, source ids)."""
    loaded = load_bundle(bundle, "fp32")
    manifest = loaded.manifest
    runtime = OnnxRuntime(
        loaded.encoder, loaded.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=1
    )
    runtime.encode([0], [source])
    weights = [runtime.step([token], with_attention=True).attention for token in (tiny.BOS, *fed)]
    return np.concatenate([each for each in weights if each is not None])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_unknown_words_are_those_that_were_attended_to(client: Client, bundle: Path, beam_size: int) -> None:
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    known = tokenizer.get_vocab()
    seen = 0
    for text in TEXTS:
        plain = client.translate(text, target="de", max_length=12, beam_size=beam_size)
        told = client.translate(text, target="de", max_length=12, beam_size=beam_size, replace_unknowns=True)
        assert told.tokens == plain.tokens
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = [known[token] for token in told.tokens]
        weights = attended(bundle, [tiny.DE, *encoding.ids, tiny.EOS], ids)
        at = 0
        for number, token_id in enumerate(ids):
            if token_id != tiny.UNK:
                continue
            begin, end = encoding.offsets[int(weights[number, 1 : 1 + len(encoding.ids)].argmax())]
            if not text[begin:end].strip():
                continue  # no word: left out
            last = len(text[:end].rstrip()) - 1
            word = text[: last + 1].rpartition(" ")[2] + text[last + 1 :].partition(" ")[0]
            if number and ids[number - 1] == tiny.UNK and told.text[:at].endswith(word):
                continue  # the same word once
            assert word in told.text[at:], (text, told.text, word)
            at = told.text.index(word, at) + len(word)
            seen += 1
        assert len(plain.text) < len(told.text) or tiny.UNK not in ids
    assert seen > 4


def test_the_coverage_penalty_is_that_of_wu_et_al(client: Client, bundle: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    known = tokenizer.get_vocab()
    for text in TEXTS:
        found = client.translate(text, target="de", max_length=12, beam_size=4, num_hypotheses=3, coverage_penalty=0.5)
        source = [tiny.DE, *tokenizer.encode(text, add_special_tokens=False).ids, tiny.EOS]
        for hypothesis in found.hypotheses:
            fed = [known[token] for token in hypothesis.tokens]
            weights = attended(bundle, source, fed)[: len(hypothesis.token_log_probs)]
            coverage = sum(math.log(min(float(share), 1.0)) for share in weights.sum(axis=0))
            expected = hypothesis.score / len(hypothesis.token_log_probs) + 0.5 * coverage
            assert hypothesis.rank_score == pytest.approx(expected, abs=1e-3)
        ranks = [hypothesis.rank_score for hypothesis in found.hypotheses]
        assert ranks == sorted(ranks, reverse=True)
