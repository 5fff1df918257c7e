"""A text that a language model has not seen, continued and scored by PyTorch once and by each graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dragoman_export.certificate import PYTORCH, find_misses
from dragoman_export.language_reference import continue_greedily, forced_logits
from dragoman_export.language_serving import ServedLanguageModel
from dragoman_export.language_texts import TokenizedText
from dragoman_export.parity import LogitComparison, first_difference
from dragoman_export.reference import fed_part
from dragoman_export.sentences import spread
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_evaluation import Window, score_documents, windows_of
from dragoman_protos.v1.bundle_pb2 import Measurement, Metric, Tie
from dragoman_server.progress import Stages
from dragoman_server.prompt_runtime import OnnxPromptRuntime

NATS = "nats per character"
MAX_NATS_LOSS = 0.01
PROMPTS = 300
COMPARED_ROWS = 32
_MOST_NEW_TOKENS = 64
_PROMPT_SHARES = (8, 4, 2)
"""Prompts are by turns this part of the window."""


@dataclass
class LanguageBench:
    """Prompts from the text, how far they are continued, and the windows in which all of it is scored."""

    text: TokenizedText
    window: int
    """Tokens that the bundle's model takes."""
    bos: int
    prompts: list[list[int]] = field(init=False)
    new_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.new_tokens = max(1, min(_MOST_NEW_TOKENS, self.window // 4))
        self.prompts = choose_prompts(self.text.documents, self.window, self.bos)

    def by_pytorch(self, model: LanguageModel, stages: Stages) -> list[list[int]]:
        """PyTorch's greedy continuations."""
        with stages.stage("PyTorch, greedy", total=len(self.prompts)) as advance:
            return continue_greedily(model, self.prompts, self.new_tokens, advance)

    def by_graph(self, served: ServedLanguageModel, name: str, stages: Stages) -> list[list[int]]:
        """The serving engine's."""
        with stages.stage(f"{name}, served", total=len(self.prompts)) as advance:
            return served.generate(self.prompts, self.new_tokens, advance)

    def nats_by_pytorch(self, model: LanguageModel, stages: Stages) -> float:
        """Nats per character of the whole text."""
        with stages.stage("PyTorch, scored"):
            return score_documents(model, self.text.documents, window=self.window).nats / self.text.characters

    def nats_by_graph(self, served: ServedLanguageModel, name: str, stages: Stages) -> float:
        """The same by the serving engine, in the same windows."""
        windows = scored_windows(self.text.documents, self.window)
        with stages.stage(f"{name}, scored", total=len(windows)) as advance:
            return served.nats(windows, advance) / self.text.characters


def scored_windows(documents: Sequence[Sequence[int]], window: int) -> list[Window]:
    """Those that ``score_documents`` takes."""
    return [part for ids in documents for part in windows_of(np.asarray(ids, np.int64), window, window // 2)]


def choose_prompts(documents: Sequence[Sequence[int]], window: int, bos: int, count: int = PROMPTS) -> list[list[int]]:
    """At most ``count`` prompts of three lengths by turns, evenly spaced over the text, each begun by bos.

    A document that is too short for one gives all but its last id.
    """
    longest = max(1, window // _PROMPT_SHARES[-1] - 1)
    places = [
        (number, begin)
        for number, ids in enumerate(documents)
        for begin in range(0, max(1, len(ids) - longest), longest)
        if len(ids) > 1
    ]
    prompts = []
    for turn, place in enumerate(spread(len(places), count)):
        number, begin = places[place]
        length = max(1, window // _PROMPT_SHARES[turn % len(_PROMPT_SHARES)] - 1)
        prompts.append([bos, *documents[number][:-1][begin : begin + length]])
    return prompts


def stepped_logits(
    runtime: OnnxPromptRuntime, prompts: Sequence[Sequence[int]], fed: Sequence[Sequence[int]]
) -> list[npt.NDArray[np.float32]]:
    """The same of a graph, for several prompts side by side, each in a row of its own."""
    for row, prompt in enumerate(prompts):
        last = len(prompt) - 1
        for begin in range(0, last, runtime.prefill_chunk):
            runtime.prefill(prompt[begin : min(begin + runtime.prefill_chunk, last)], begin)
        runtime.admit(row, last)
    found: list[list[npt.NDArray[np.float32]]] = [[] for _ in prompts]
    tokens = [prompt[-1] for prompt in prompts]
    for step in range(max(map(len, fed)) + 1):
        logits = runtime.step(tokens, with_logits=True).logits
        assert logits is not None
        for row, ids in enumerate(fed):
            if step <= len(ids):
                found[row].append(logits[row].copy())
            if step < len(ids):
                tokens[row] = ids[step]
    return [np.array(rows) for rows in found]


def compare_language_logits(
    model: LanguageModel,
    runtimes: Mapping[str, OnnxPromptRuntime],
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    advance: Callable[[int], None] = lambda count: None,
) -> LogitComparison:
    """Feed all with PyTorch's greedy ``targets`` and compare what they say next."""
    fed = [fed_part(target, new_tokens) for target in targets]
    largest = dict.fromkeys(runtimes, 0.0)
    gaps: list[list[float]] = []
    for begin in range(0, len(prompts), COMPARED_ROWS):
        some, ids = prompts[begin : begin + COMPARED_ROWS], fed[begin : begin + COMPARED_ROWS]
        expected = [forced_logits(model, prompt, tokens) for prompt, tokens in zip(some, ids, strict=True)]
        gaps += [(-np.partition(-rows, 1)[:, :2] @ np.array([1.0, -1.0])).tolist() for rows in expected]
        for precision, runtime in runtimes.items():
            for one, other in zip(stepped_logits(runtime, some, ids), expected, strict=True):
                # NaN outranks every number.
                largest[precision] = float(np.max([largest[precision], np.abs(one - other).max()]))
        advance(len(some))
    return LogitComparison(largest, gaps)


def add_language_parity(
    measured: Measurement,
    expected: Sequence[Sequence[int]],
    found: Sequence[Sequence[int]],
    comparison: LogitComparison,
) -> None:
    """Fill in the largest logit difference, the share of identical continuations, and the prompts that differ."""
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        if list(one) != list(other):
            measured.ties.append(Tie(line=number + 1, logit_gap=comparison.gaps[number][first_difference(one, other)]))
    measured.max_logit_difference = comparison.largest[measured.precision]
    measured.parity_sentences = len(expected)
    measured.identical_greedy = 1.0 - len(measured.ties) / len(expected)


def language_misses(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Every limit that is missed: those of all families, and nats per character no more than 0.01 above PyTorch's."""
    for measured in measurements:
        yield from find_misses([measured])
        yield from nats_misses(measured)


def nats_misses(measured: Measurement) -> Iterator[str]:
    """What is missed in nats per character."""
    for metric in measured.metrics:
        loss = metric.value - metric.pytorch
        if metric.name == NATS and (math.isnan(loss) or loss > MAX_NATS_LOSS):
            yield (
                f"{measured.precision}: {NATS} {metric.value:.4f}, PyTorch's is {metric.pytorch:.4f}, "
                f"must be at most {MAX_NATS_LOSS:g} above"
            )


def nats_metric(pytorch: float, value: float) -> Metric:
    """As a certificate holds it."""
    return Metric(name=NATS, pytorch=pytorch, value=value)


def pytorch_language_measurement(nats: float) -> Measurement:
    """PyTorch's own figures, which the others are held against; its parity is with itself."""
    return Measurement(precision=PYTORCH, provider=PYTORCH, identical_greedy=1.0, metrics=[nats_metric(nats, nats)])
