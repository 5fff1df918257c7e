"""One encoder, run by PyTorch once and by each graph, and the figures that come of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragoman_export.certificate import MAX_LOGIT_DIFFERENCE, PYTORCH
from dragoman_export.encoder_measured import MeasuredTexts
from dragoman_export.encoder_passes import ROWS, Passes, largest_difference, run_all
from dragoman_protos.v1.bundle_pb2 import Bundle, Measurement, Metric, Tie
from dragoman_server.pass_runtime import EncoderOutput, OnnxPassRuntime
from dragoman_server.progress import Stages

MIN_IDENTICAL = 0.999
MAX_SHARE_LOSS = 0.01


@dataclass
class EncoderBench:
    """Texts to measure on, and what PyTorch says of them."""

    texts: Sequence[MeasuredTexts]
    """Whatever the model decides about: decisions are counted on the first, figures are taken of all."""
    expected: list[list[EncoderOutput]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)

    def outputs(self, passes: Passes, name: str, stages: Stages) -> list[list[EncoderOutput]]:
        """Of all texts."""
        with stages.stage(name, total=sum(len(texts.inputs) for texts in self.texts)) as advance:
            return [run_all(passes, texts.inputs, advance=advance) for texts in self.texts]

    def expect(self, outputs: list[list[EncoderOutput]]) -> None:
        """Take PyTorch's outputs, which all others are held against."""
        self.expected, self.scores = outputs, self.figures(outputs)

    def figures(self, outputs: list[list[EncoderOutput]]) -> dict[str, float]:
        """All figures by name."""
        found: dict[str, float] = {}
        for texts, of_texts in zip(self.texts, outputs, strict=True):
            found |= texts.scores(of_texts)
        return found

    def measurement(
        self, precision: str, provider: str, outputs: list[list[EncoderOutput]], hashes: dict[str, str]
    ) -> Measurement:
        """The outputs of a precision's graph, held against PyTorch's."""
        decided = self.texts[0]
        ties = [
            Tie(line=number + 1, logit_gap=decided.gap(number, expected))
            for number, (expected, found) in enumerate(zip(self.expected[0], outputs[0], strict=True))
            if decided.decision(number, expected) != decided.decision(number, found)
        ]
        figures = self.figures(outputs)
        pairs = zip(self.expected, outputs, strict=True)
        return Measurement(
            precision=precision,
            provider=provider,
            max_logit_difference=max_with_nan([largest_difference(expected, found) for expected, found in pairs]),
            parity_sentences=len(decided.inputs),
            identical_greedy=1.0 - len(ties) / len(decided.inputs),
            ties=ties,
            graph_sha256=hashes,
            metrics=[Metric(name=name, pytorch=self.scores[name], value=value) for name, value in figures.items()],
        )

    def pytorch_measurement(self) -> Measurement:
        """PyTorch's own figures; its parity is with itself."""
        metrics = [Metric(name=name, pytorch=value, value=value) for name, value in self.scores.items()]
        return Measurement(precision=PYTORCH, provider=PYTORCH, identical_greedy=1.0, metrics=metrics)


def served_encoder(path: Path, manifest: Bundle) -> OnnxPassRuntime:
    """The runtime that serves, over a graph of the bundle."""
    return OnnxPassRuntime(path, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=ROWS)


def encoder_misses(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Every limit that an encoder's measurements miss.

    fp32: outputs and decisions. Every precision: figures no more than a hundredth below PyTorch's. A NaN misses.
    """
    for measured in measurements:
        if measured.precision == "fp32":
            if not measured.max_logit_difference < MAX_LOGIT_DIFFERENCE:
                yield (
                    f"fp32: largest difference of an output from PyTorch {measured.max_logit_difference:.3g}, "
                    f"must be below {MAX_LOGIT_DIFFERENCE:g}"
                )
            if not measured.identical_greedy >= MIN_IDENTICAL:
                yield (
                    f"fp32: of {measured.parity_sentences} texts {measured.identical_greedy:.2%} are decided as by "
                    f"PyTorch, must be at least {MIN_IDENTICAL:.1%}"
                )
        for metric in measured.metrics:
            loss = metric.pytorch - metric.value
            if math.isnan(loss) or loss > MAX_SHARE_LOSS:
                yield (
                    f"{measured.precision}: {metric.name} {metric.value:.4f}, PyTorch's is {metric.pytorch:.4f}, "
                    f"must be at most {MAX_SHARE_LOSS} below"
                )


def max_with_nan(values: Sequence[float]) -> float:
    """The largest; a NaN outranks every number."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)
