"""The engine over exported graphs against slow, obvious decoding over PyTorch: every rule, with a small model."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dragoman_export.explain_modules import VisibleTransformer
from dragoman_export.graphs import export_graphs
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Limits
from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences
from dragoman_server.engine import Engine
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.runtime import OnnxRuntime
from tests.unit.export import tiny_model
from tests.unit.server import reference
from tests.unit.server.decoding_requests import letters
from tests.unit.server.toy_model import EOS, Floats, log_softmax, penalised

VOCABULARY, FIRST_WORD, LONGEST, TOP_K = 40, 6, 6, 16
SOURCES = [(4, 9, 13), (4, 20, 31, 7, 12, 31, 8)]
PLAIN = DecodingOptions(max_length=LONGEST)
BEAM = replace(PLAIN, beam_size=4, num_hypotheses=4)


class Oracle:
    """What PyTorch says, each time from the beginning, without a cache of keys and values."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._visible = VisibleTransformer(model, None)
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], npt.NDArray[np.float64]] = {}

    def logits(self, source: tuple[int, ...], history: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """(vocabulary,) of what follows; many rules ask the same."""
        if (source, history) not in self._known:
            with torch.no_grad():
                states = self._model(torch.tensor([source]), None, self._target(history))
                self._known[source, history] = self._model.logits(states[0, -1]).double().numpy()
        return self._known[source, history].copy()

    def attention(self, source: tuple[int, ...], history: tuple[int, ...]) -> Floats:
        """(target, source): the last layer's, mean of its heads."""
        with torch.no_grad():
            *_, cross = self._visible(torch.tensor([source]), torch.tensor([len(source)]), self._target(history))
        found: Floats = cross[0, -1].mean(dim=0).numpy()
        return found

    def _target(self, history: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([[self._model.config.bos_id, *history]])


@dataclass(frozen=True)
class InPyTorch:
    """The model of slow decoding, for one source."""

    oracle: Oracle
    source: tuple[int, ...]
    options: DecodingOptions

    def __call__(self, history: tuple[int, ...]) -> Floats:
        logits = self.oracle.logits(self.source, history)
        penalised(logits, history, self.options)
        return log_softmax(logits.astype(np.float32))

    def attention(self, tokens: tuple[int, ...], steps: int) -> Floats:
        """As ``reference.Attentive`` says."""
        return self.oracle.attention(self.source, tokens)[:steps]


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Half learnt to write sources backwards: unsure, but not the same at every step as random weights are."""
    model = tiny_model.make_model(vocabulary=VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for update in range(80):
        torch.manual_seed(update)
        words = torch.randint(FIRST_WORD, VOCABULARY, (16, 2 + update % 6))
        source = torch.nn.functional.pad(words, (1, 0), value=4)
        target = torch.nn.functional.pad(words.flip(1), (1, 1), value=EOS)
        target[:, 0] = model.config.bos_id
        logits = model.logits(model(source, None, target[:, :-1]))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert model.config.eos_id == EOS
    return model.eval()


@pytest.fixture(scope="module")
def oracle(model: Transformer) -> Oracle:
    return Oracle(model)


@pytest.fixture(scope="module")
def engine(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    config = model.config
    encoder, decoder = export_graphs(model, tmp_path_factory.mktemp("graphs"), top_k=TOP_K)
    dimensions = tiny_model.dimensions(model)
    limits = Limits(source_tokens=24, target_tokens=24)
    runtime = OnnxRuntime(encoder, decoder, dimensions=dimensions, limits=limits, max_rows=64)
    engine = Engine([runtime], bos=config.bos_id, eos=config.eos_id, max_waiting=10_000, max_waiting_tokens=1_000_000)
    engine.start()
    yield engine
    engine.stop(0.0)


def decoded(engine: Engine, asked: Sequence[tuple[Sequence[int], DecodingOptions]]) -> list[Completion]:
    """The answers to all, which are decoded together."""
    outcomes: list[Outcome | None] = [None] * len(asked)
    left = threading.Semaphore(0)

    def answer(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        left.release()

    for number, (source, options) in enumerate(asked):
        engine.submit(Request(source, options, partial(answer, number)))
    for _ in asked:
        assert left.acquire(timeout=60)
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Completion)]


RULES: dict[str, DecodingOptions] = {
    "greedy": PLAIN,
    "beam search": BEAM,
    "a wide beam": replace(PLAIN, beam_size=8, num_hypotheses=8),
    "scores without length penalty": replace(BEAM, length_penalty=LengthPenalty(0.0)),
    "length penalty of Wu et al.": replace(BEAM, length_penalty=LengthPenalty(0.6, wu=True)),
    "coverage penalty": replace(BEAM, coverage_penalty=0.4),
    "patience": replace(BEAM, patience=2.0),
    "impatience": replace(BEAM, num_hypotheses=1, patience=0.5),
    "early stopping": replace(BEAM, num_hypotheses=2, early_stopping=True),
    "repetition penalty": replace(BEAM, repetition_penalty=1.5),
    "presence and frequency penalty": replace(PLAIN, presence_penalty=0.7, frequency_penalty=0.4),
    "no repeated n-gram": replace(BEAM, no_repeat_ngram_size=2),
    "banned": replace(BEAM, banned=((7,), (11, 12), (23,))),
    "allowed": replace(BEAM, allowed=tuple(range(8, 30, 3))),
    "least length": replace(BEAM, min_length=4),
    "least length, greedy": replace(PLAIN, min_length=LONGEST - 1),
    "prefix": replace(BEAM, prefix=(21, 8, 30)),
    "prefix, greedy": replace(PLAIN, prefix=(21, 8, 30)),
    "alternatives": replace(PLAIN, alternatives=6),
    "alternatives after a prefix": replace(PLAIN, alternatives=5, prefix=(21, 8)),
    "stop sequences": replace(PLAIN, stop=StopSequences(tuple(letters([token]) for token in range(6, 40, 3)), letters)),
    "stop sequences in a beam": replace(BEAM, stop=StopSequences((letters([9]), letters([20, 21])), letters)),
    "score": DecodingOptions(max_length=5, prefix=(9, 30, 14, 7, 3), forced=True),
    "samples": replace(PLAIN, num_hypotheses=5, sampling=SamplingOptions(seed=5, temperature=1.3, top_p=0.9)),
    "everything at once": replace(
        BEAM, min_length=4, repetition_penalty=1.2, no_repeat_ngram_size=3, banned=((7,),), prefix=(8,), patience=1.5
    ),
}


def test_every_rule_gives_what_pytorch_gives(oracle: Oracle, engine: Engine) -> None:
    asked = [(source, options) for options in RULES.values() for source in SOURCES]
    reasons: Counter[Any] = Counter()
    for (source, options), completion in zip(asked, decoded(engine, asked), strict=True):
        expected = reference.decode(InPyTorch(oracle, source, options), options)
        assert [tuple(answer.token_ids) for answer in completion.answers] == [found.tokens for found in expected]
        for answer, found in zip(completion.answers, expected, strict=True):
            assert answer.finish_reason is found.reason
            np.testing.assert_allclose(answer.log_probs, found.log_probs, atol=1e-4)
            assert answer.rank_score == pytest.approx(found.rank(options), abs=1e-4)
            reasons[found.reason] += 1
    assert len(reasons) == 3
    assert min(reasons.values()) >= 3


def probabilities(log_probs: npt.NDArray[np.float64], sampling: SamplingOptions) -> npt.NDArray[np.float64]:
    """What a token is drawn by: temperature, then one truncation, as its paper has it, token by token."""
    scaled = np.exp(log_probs / sampling.temperature)
    shares: dict[int, float] = dict(enumerate((scaled / scaled.sum()).tolist()))
    order = sorted(shares, key=lambda token: -shares[token])
    if sampling.top_k:
        kept = order[: sampling.top_k]
    elif sampling.min_p:
        kept = [token for token in order if shares[token] >= sampling.min_p * shares[order[0]]]
    elif sampling.typical_p < 1:
        entropy = -sum(share * np.log(share) for share in shares.values())
        kept = _reaching(
            sorted(shares, key=lambda token: abs(-np.log(shares[token]) - entropy)), shares, sampling.typical_p
        )
    else:
        kept = _reaching(order, shares, sampling.top_p)
    found = np.zeros(len(shares))
    found[kept] = [shares[token] for token in kept]
    found /= found.sum()
    return found


def _reaching(order: Sequence[int], shares: dict[int, float], mass: float) -> list[int]:
    """The first tokens that together have the mass."""
    kept: list[int] = []
    for token in order:
        kept.append(token)
        if sum(shares[one] for one in kept) >= mass:
            break
    return kept


@pytest.mark.parametrize(
    "given",
    [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.08}, {"typical_p": 0.7}],
    ids=str,
)
def test_drawn_tokens_have_pytorchs_frequencies(oracle: Oracle, engine: Engine, given: dict[str, Any]) -> None:
    source, each = SOURCES[1], 16
    requests = [
        (source, DecodingOptions(max_length=1, num_hypotheses=each, sampling=SamplingOptions(seed=seed, **given)))
        for seed in range(250)
    ]
    counts = np.zeros(VOCABULARY)
    for completion in decoded(engine, requests):
        for answer in completion.answers:
            counts[answer.token_ids[0] if answer.token_ids else EOS] += 1
    draws = each * len(requests)
    assert counts.sum() == draws
    log_probs = InPyTorch(oracle, source, PLAIN)(()).astype(np.float64)
    expected = draws * probabilities(log_probs, SamplingOptions(seed=0, **given))
    assert not counts[expected == 0].any()
    # Of those that are too seldom for the statistic, the sum.
    seldom = expected < 10
    observed = [*counts[~seldom], counts[seldom].sum()]
    wanted = [*expected[~seldom], expected[seldom].sum()]
    bins = [(count, mean) for count, mean in zip(observed, wanted, strict=True) if mean >= 5]
    assert len(bins) >= 4
    statistic = sum((count - mean) ** 2 / mean for count, mean in bins)
    free = len(bins) - 1
    # The 99.9% point of the chi-square distribution, by Wilson and Hilferty 1931.
    limit = free * (1 - 2 / (9 * free) + 3.09 * (2 / (9 * free)) ** 0.5) ** 3
    assert statistic < limit
