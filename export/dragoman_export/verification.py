"""``dragoman verify``: is the bundle what it says, and does it still do what its certificate says?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman_export.certificate import BEAM, BEAM_SIZE, GREEDY, MAX_LOGIT_DIFFERENCE, PYTORCH, find_misses, quality_of
from dragoman_export.graphs import GraphPaths
from dragoman_export.measuring import Outputs, TestBench, stepped_graphs
from dragoman_export.parity import ParitySentence, compare_logits
from dragoman_export.probes import ParityRecord, Probe, measure_probes, output_hash, read_record, record_probes
from dragoman_export.sentences import Direction, parse_direction, read_parallel
from dragoman_export.serving import ServedGraphs, SourceReader
from dragoman_model.checkpoint import TrainedModel, load_model
from dragoman_model.metrics import Scores
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Bundle, Measurement
from dragoman_server.bundle import BundleError, LoadedBundle, load_bundle
from dragoman_server.inspection import checked_manifest
from dragoman_server.machine import usable_cores
from dragoman_server.progress import Stages

# Another processor or version rounds the float32 parts differently, and a near tie may fall the other way.
_SCORE_TOLERANCE = 0.1
_SHARE_TOLERANCE = 0.01
_PROBES_TOLERANCE = 2
_INT8_LOGIT_FACTOR, _INT8_LOGIT_MARGIN = 1.2, 0.05


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was to be found, what was, and whether that is near enough."""

    name: str
    expected: str
    found: str
    good: bool


@dataclass(frozen=True)
class Verification:
    """All faults of the folder and all checks; checks are made only where there are no faults."""

    faults: list[str]
    checks: list[Check]

    @property
    def good(self) -> bool:
        """Whether everything agrees."""
        return not self.faults and all(check.good for check in self.checks)


def verify(bundle: Path, data: Sequence[Path] = (), checkpoint: Path | None = None, *, stages: Stages) -> Verification:
    """Check integrity, then the probes; with ``data`` the certificate's figures, with ``checkpoint`` PyTorch's too.

    ProbesError where parity.json cannot be read, and the errors of checkpoint and data.
    """
    try:
        manifest = checked_manifest(bundle)
    except BundleError as error:
        return Verification(error.faults, [])
    return Verification([], list(_Verifier(bundle, manifest, data, checkpoint, stages).checks()))


class _Verifier:
    """The checks of one sound bundle, with what they share."""

    def __init__(
        self, path: Path, manifest: Bundle, data: Sequence[Path], checkpoint: Path | None, stages: Stages
    ) -> None:
        self.manifest, self.stages = manifest, stages
        self.threads = min(usable_cores(), torch.get_num_threads())
        self.record: ParityRecord = read_record(path)
        self.loaded = {precision: load_bundle(path, precision) for precision in sorted(manifest.precisions)}
        self.trained = None if checkpoint is None else load_model(checkpoint, Transformer)
        self.text = read_parallel(data, self.record.columns) if data else None

    def checks(self) -> Iterator[Check]:
        """In the order of the report."""
        yield Check("integrity", "as listed", f"{len(self.manifest.files)} files", good=True)
        yield from self._certificate()
        for precision, loaded in self.loaded.items():
            yield from self._probes(precision, loaded)
        if self.trained is not None:
            yield from self._checkpoint(self.trained)
        if self.text is not None:
            wanted, found = self.manifest.certificate.test_set.sha256, self.text.sha256
            yield Check("test set", wanted[:16], found[:16], good=wanted == found)
            if wanted == found:
                yield from self._test_set()

    def _certificate(self) -> Iterator[Check]:
        misses = list(find_misses(self.manifest.certificate.measurements))
        yield Check("certificate's limits", "met", "; ".join(misses) or "met", good=not misses)
        hashes = {file.path: file.sha256 for file in self.manifest.files}
        for precision in self.loaded:
            measured = self._measurement(precision)
            same = measured is not None and all(
                measured.graph_sha256.get(path) == hashes[path]
                for path in (self.manifest.precisions[precision].encoder, self.manifest.precisions[precision].decoder)
            )
            found = "the same" if same else "others, or none"
            yield Check(f"{precision}: graphs that were measured", "the same", found, good=same)

    def _probes(self, precision: str, loaded: LoadedBundle) -> Iterator[Check]:
        probes, known = self.record.probes, self.record.measured.get(precision)
        if known is None or not probes:
            yield Check(f"{precision}: probes", "recorded", "none", good=False)
            return
        paths = GraphPaths(loaded.encoder, loaded.decoder)
        stepped = stepped_graphs(*paths, self.manifest, self.threads)
        with self.stages.stage(f"{precision} probes"), ServedGraphs(*paths, self.manifest) as served:
            found = served.translate([p.source_ids for p in probes], max_length=self.record.max_length)
            result = measure_probes(stepped, probes, found)
        limit = MAX_LOGIT_DIFFERENCE
        if precision != "fp32":
            limit = _INT8_LOGIT_FACTOR * known.max_logit_difference + _INT8_LOGIT_MARGIN
        yield Check(
            f"{precision}: probes, largest logit difference",
            f"below {limit:.3g}",
            f"{result.max_logit_difference:.3g}",
            good=result.max_logit_difference < limit,
        )
        least = known.identical - _PROBES_TOLERANCE
        yield Check(
            f"{precision}: probes, greedy outputs that are PyTorch's",
            f"{known.identical} of {len(probes)}",
            str(result.identical),
            good=result.identical >= least,
        )

    def _checkpoint(self, trained: TrainedModel[Transformer]) -> Iterator[Check]:
        wanted = self.manifest.provenance.checkpoint_sha256
        yield Check("checkpoint", wanted[:16], trained.sha256[:16], good=wanted == trained.sha256)
        with self.stages.stage("PyTorch, probes"):
            reader = SourceReader(trained.tokenizer, self.manifest)
            directions = [Direction(*pair) for pair in self.record.directions]
            again = record_probes(trained, reader, directions, self.record.max_length)
        same = sum(a.target_ids == b.target_ids for a, b in zip(again, self.record.probes, strict=False))
        total = len(self.record.probes)
        good = len(again) == total and same >= total - _PROBES_TOLERANCE
        yield Check("PyTorch: probes, greedy outputs", f"{total}", f"{same}", good=good)
        largest = max((_step_difference(a, b) for a, b in zip(again, self.record.probes, strict=False)), default=0.0)
        good = largest < MAX_LOGIT_DIFFERENCE
        yield Check("PyTorch: probes, logits", f"within {MAX_LOGIT_DIFFERENCE:g}", f"{largest:.3g}", good=good)

    def _test_set(self) -> Iterator[Check]:
        assert self.text is not None
        directions = [Direction(*pair) for pair in self.record.directions]
        first = next(iter(self.loaded.values()))
        reader = SourceReader(first.tokenizer, self.manifest)
        bench = TestBench(self.text, directions, reader, self.record.max_length)
        bench.sentences = [ParitySentence(line, parse_direction(way)) for line, way, _ in self.record.sentences]
        outside = [
            s for s in bench.sentences if s.direction not in directions or not 1 <= s.line <= len(self.text.pairs)
        ]
        if outside or not bench.sentences:
            yield Check("parity sentences", "in the test set", f"{len(outside)} are not", good=False)
            return
        for precision, loaded in self.loaded.items():
            with ServedGraphs(loaded.encoder, loaded.decoder, self.manifest) as served:
                outputs = bench.by_graphs(served, precision, self.stages)
            yield self._identical(precision, bench, outputs)
            yield from self._scores(precision, bench.scores(outputs), GREEDY)
        if self.trained is not None:
            greedy = bench.by_pytorch(self.trained.model, self.stages)
            yield from self._scores(PYTORCH, bench.scores(greedy), GREEDY)
            beam = bench.by_pytorch(self.trained.model, self.stages, beam_size=BEAM_SIZE)
            yield from self._scores(PYTORCH, bench.scores(beam), BEAM)
            yield from self._logits(self.trained, bench, greedy)

    def _identical(self, precision: str, bench: TestBench, outputs: Outputs) -> Check:
        hashes = [digest for _, _, digest in self.record.sentences]
        found = bench.parity_part(outputs)
        same = sum(digest == output_hash(ids) for digest, ids in zip(hashes, found, strict=True))
        measured = self._measurement(precision)
        wanted = measured.identical_greedy if measured is not None else 1.0
        share = same / len(bench.sentences)
        return Check(
            f"{precision}: greedy outputs that are PyTorch's, {len(bench.sentences)} sentences",
            f"{wanted:.1%}",
            f"{share:.1%}",
            good=share >= wanted - _SHARE_TOLERANCE,
        )

    def _scores(self, precision: str, scores: dict[Direction, Scores], decoding: str) -> Iterator[Check]:
        certified = quality_of(self.manifest.certificate, precision)
        for direction, score in scores.items():
            quality = certified.get((str(direction), decoding))
            for metric, found in (("BLEU", score.bleu), ("chrF", score.chrf)):
                name = f"{precision}: {direction} {decoding} {metric}"
                if quality is None:
                    yield Check(name, "certified", "not certified", good=False)
                    continue
                wanted = quality.bleu if metric == "BLEU" else quality.chrf
                yield Check(name, f"{wanted:.2f}", f"{found:.2f}", good=abs(found - wanted) <= _SCORE_TOLERANCE)

    def _logits(self, trained: TrainedModel[Transformer], bench: TestBench, greedy: Outputs) -> Iterator[Check]:
        stepped = {
            precision: stepped_graphs(loaded.encoder, loaded.decoder, self.manifest, self.threads)
            for precision, loaded in self.loaded.items()
        }
        sources, targets = bench.parity_part(bench.sources), bench.parity_part(greedy)
        with self.stages.stage("parity", total=len(sources)) as advance:
            comparison = compare_logits(
                trained.model, stepped, sources, targets, max_length=self.record.max_length, advance=advance
            )
        for precision, largest in comparison.largest.items():
            measured = self._measurement(precision)
            known = measured.max_logit_difference if measured is not None else 0.0
            limit = MAX_LOGIT_DIFFERENCE if precision == "fp32" else _INT8_LOGIT_FACTOR * known + _INT8_LOGIT_MARGIN
            name = f"{precision}: largest logit difference from PyTorch"
            yield Check(name, f"below {limit:.3g}", f"{largest:.3g}", good=largest < limit)

    def _measurement(self, precision: str) -> Measurement | None:
        return next((m for m in self.manifest.certificate.measurements if m.precision == precision), None)


def _step_difference(left: Probe, right: Probe) -> float:
    """Largest difference of a logit at the steps before the outputs part."""
    largest = 0.0
    for step, (a, b) in enumerate(zip(left.steps, right.steps, strict=False)):
        if left.target_ids[:step] != right.target_ids[:step]:
            break
        known = dict(zip(b.ids, b.logits, strict=True))
        shared = [abs(logit - known[token]) for token, logit in zip(a.ids, a.logits, strict=True) if token in known]
        largest = max([largest, abs(a.log_sum_exp - b.log_sum_exp), *shared])
    return largest
