"""What ``dragoman verify`` checks of an encoder-decoder bundle: probes, and the test set both ways."""

from __future__ import annotations

from collections.abc import Iterator

from dragoman_export.certificate import BEAM, BEAM_SIZE, GREEDY, MAX_LOGIT_DIFFERENCE, PYTORCH, quality_of
from dragoman_export.checks import (
    PROBES_TOLERANCE,
    SCORE_TOLERANCE,
    SHARE_TOLERANCE,
    Check,
    Subject,
    checkpoint_check,
    data_check,
    logit_limit,
)
from dragoman_export.explain_step import attention_checks
from dragoman_export.export_job import trained_as
from dragoman_export.graphs import GraphPaths
from dragoman_export.measuring import Outputs, TestBench, stepped_graphs
from dragoman_export.parity import ParitySentence, compare_logits
from dragoman_export.probes import (
    ParityRecord,
    measure_probes,
    output_hash,
    read_record,
    record_probes,
    step_differences,
)
from dragoman_export.reference import fed_part
from dragoman_export.sentences import Direction, parse_direction, read_parallel
from dragoman_export.serving import ServedGraphs, SourceReader
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.metrics import Scores
from dragoman_model.transformer import Transformer
from dragoman_server.bundle import LoadedBundle
from dragoman_server.explaining.graph import ExplainInput


def translation_checks(subject: Subject) -> Iterator[Check]:
    """Of an encoder-decoder bundle: what its probes and its test set are translated to.

    ProbesError where parity.json cannot be read, DataError for data that cannot.
    """
    return _Verifier(subject).checks()


class _Verifier:
    """The checks of one sound bundle, with what they share."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.manifest, self.stages = subject, subject.manifest, subject.stages
        self.threads, self.loaded = subject.threads, subject.loaded
        self.trained = None if subject.trained is None else trained_as(subject.trained, Transformer)
        self.record: ParityRecord = read_record(subject.path)
        self.text = read_parallel(subject.data, self.record.columns) if subject.data else None

    def checks(self) -> Iterator[Check]:
        """In the order of the report."""
        for precision, loaded in self.loaded.items():
            yield from self._probes(precision, loaded)
        yield from attention_checks(self.subject, self._attention_inputs())
        if self.trained is not None:
            yield from self._checkpoint(self.trained)
        if self.text is not None:
            same = data_check(self.manifest, self.text.sha256)
            yield same
            if same.good:
                yield from self._test_set()

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
        limit = logit_limit(precision, known.max_logit_difference)
        yield Check(
            f"{precision}: probes, largest logit difference",
            f"below {limit:.3g}",
            f"{result.max_logit_difference:.3g}",
            good=result.max_logit_difference < limit,
        )
        least = known.identical - PROBES_TOLERANCE
        yield Check(
            f"{precision}: probes, greedy outputs that are PyTorch's",
            f"{known.identical} of {len(probes)}",
            str(result.identical),
            good=result.identical >= least,
        )

    def _attention_inputs(self) -> list[ExplainInput]:
        bos, most = self.manifest.special_ids.bos, self.record.max_length
        return [ExplainInput(p.source_ids, [bos, *fed_part(p.target_ids, most)]) for p in self.record.probes]

    def _checkpoint(self, trained: TrainedModel[Transformer]) -> Iterator[Check]:
        yield checkpoint_check(self.manifest, trained)
        with self.stages.stage("PyTorch, probes"):
            reader = SourceReader(trained.tokenizer, self.manifest)
            directions = [Direction(*pair) for pair in self.record.directions]
            again = record_probes(trained, reader, directions, self.record.max_length)
        same = sum(a.target_ids == b.target_ids for a, b in zip(again, self.record.probes, strict=False))
        total = len(self.record.probes)
        good = len(again) == total and same >= total - PROBES_TOLERANCE
        yield Check("PyTorch: probes, greedy outputs", f"{total}", f"{same}", good=good)
        largest = max(
            (
                step_differences(a.steps, a.target_ids, b.steps, b.target_ids)
                for a, b in zip(again, self.record.probes, strict=False)
            ),
            default=0.0,
        )
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
        measured = self.subject.measurement(precision)
        wanted = measured.identical_greedy if measured is not None else 1.0
        share = same / len(bench.sentences)
        return Check(
            f"{precision}: greedy outputs that are PyTorch's, {len(bench.sentences)} sentences",
            f"{wanted:.1%}",
            f"{share:.1%}",
            good=share >= wanted - SHARE_TOLERANCE,
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
                yield Check(name, f"{wanted:.2f}", f"{found:.2f}", good=abs(found - wanted) <= SCORE_TOLERANCE)

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
            measured = self.subject.measurement(precision)
            limit = logit_limit(precision, measured.max_logit_difference if measured is not None else 0.0)
            name = f"{precision}: largest logit difference from PyTorch"
            yield Check(name, f"below {limit:.3g}", f"{largest:.3g}", good=largest < limit)
