"""One test set, decoded by PyTorch once and by each pair of graphs, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragoman_export import reference
from dragoman_export.certificate import GREEDY, PYTORCH
from dragoman_export.parity import LogitComparison, ParitySentence, choose_sentences, find_ties
from dragoman_export.sentences import Direction, ParallelText
from dragoman_export.serving import ServedGraphs, SourceReader
from dragoman_export.stepping import SteppedGraphs
from dragoman_model.metrics import Scores, translation_scores
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Bundle, Measurement, Quality
from dragoman_server.progress import Stages

Outputs = dict[Direction, list[list[int]]]
"""Target ids of every sentence of the test set."""


@dataclass
class TestBench:
    """The test set as ids, both ways, and what PyTorch makes of it."""

    __test__ = False  # not a test, whatever its name says to pytest

    text: ParallelText
    directions: list[Direction]
    reader: SourceReader
    max_length: int
    sources: Outputs = field(init=False)
    sentences: list[ParitySentence] = field(init=False)

    def __post_init__(self) -> None:
        self.sources = {
            direction: self.reader.encode_all(self.text.sentences(direction).sources, direction.target)
            for direction in self.directions
        }
        self.sentences = choose_sentences(len(self.text.pairs), self.directions)

    def by_pytorch(self, model: Transformer, stages: Stages, *, beam_size: int = 1) -> Outputs:
        """PyTorch's outputs."""
        name = "PyTorch, greedy" if beam_size == 1 else f"PyTorch, beam {beam_size}"
        with stages.stage(name, total=len(self.text.pairs) * len(self.directions)) as advance:
            return {
                direction: reference.translate(
                    model, sources, max_length=self.max_length, beam_size=beam_size, advance=advance
                )
                for direction, sources in self.sources.items()
            }

    def by_graphs(self, served: ServedGraphs, name: str, stages: Stages) -> Outputs:
        """The serving engine's outputs."""
        with stages.stage(f"{name}, served", total=len(self.text.pairs) * len(self.directions)) as advance:
            return {
                direction: served.translate(sources, max_length=self.max_length, advance=advance)
                for direction, sources in self.sources.items()
            }

    def scores(self, outputs: Outputs) -> dict[Direction, Scores]:
        """BLEU and chrF of each direction over the whole test set."""
        return {
            direction: translation_scores(self.reader.decode(ids), self.text.sentences(direction).references)
            for direction, ids in outputs.items()
        }

    def parity_part(self, outputs: Outputs) -> list[list[int]]:
        """Those of the parity sentences, in their order."""
        return [outputs[sentence.direction][sentence.line - 1] for sentence in self.sentences]


def greedy_quality(expected: Mapping[Direction, Scores], found: Mapping[Direction, Scores]) -> list[Quality]:
    """PyTorch's and the graphs' greedy scores side by side."""
    return [_quality(direction, GREEDY, expected[direction], found[direction]) for direction in expected]


def pytorch_measurement(by_decoding: Mapping[str, Mapping[Direction, Scores]]) -> Measurement:
    """PyTorch's own figures, which the others are held against; its parity is with itself."""
    return Measurement(
        precision=PYTORCH,
        provider=PYTORCH,
        identical_greedy=1.0,
        quality=[
            _quality(direction, decoding, scores, scores)
            for decoding, by_direction in by_decoding.items()
            for direction, scores in by_direction.items()
        ],
    )


def _quality(direction: Direction, decoding: str, expected: Scores, found: Scores) -> Quality:
    return Quality(
        direction=str(direction),
        decoding=decoding,
        bleu_pytorch=expected.bleu,
        bleu=found.bleu,
        chrf_pytorch=expected.chrf,
        chrf=found.chrf,
        signature=f"BLEU {found.bleu_signature}; chrF {found.chrf_signature}",
    )


def add_parity(
    measured: Measurement,
    sentences: Sequence[ParitySentence],
    expected: Sequence[Sequence[int]],
    found: Sequence[Sequence[int]],
    comparison: LogitComparison,
) -> None:
    """Fill in the largest logit difference, the share of identical outputs, and the sentences that differ."""
    ties = find_ties(sentences, expected, found, comparison.gaps)
    measured.max_logit_difference = comparison.largest[measured.precision]
    measured.parity_sentences = len(sentences)
    measured.identical_greedy = 1.0 - len(ties) / len(sentences)
    measured.ties.extend(ties)


def stepped_graphs(encoder: Path, decoder: Path, manifest: Bundle, threads: int) -> SteppedGraphs:
    """Sessions of the graphs that are stepped along given targets."""
    return SteppedGraphs(encoder, decoder, pad=manifest.special_ids.pad, bos=manifest.special_ids.bos, threads=threads)
