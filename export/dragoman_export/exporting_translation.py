"""The export of an encoder-decoder model: certified by BLEU on sentence pairs, both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dragoman_export import reference
from dragoman_export.bundle_writer import graph_path, sha256, write_bundle
from dragoman_export.certificate import BEAM, BEAM_SIZE, GREEDY, bleu_misses, issue, judge
from dragoman_export.describing import describe_translation
from dragoman_export.explain_step import add_explain
from dragoman_export.export_job import ExportError, ExportJob, ExportOptions, ExportResult, trained_as
from dragoman_export.graphs import GraphPaths, export_graphs, export_half_graphs
from dragoman_export.measuring import (
    Outputs,
    TestBench,
    add_parity,
    greedy_quality,
    pytorch_measurement,
    stepped_graphs,
)
from dragoman_export.parity import compare_logits
from dragoman_export.probes import ParityRecord, ProbeResult, measure_probes, output_hash, record_probes
from dragoman_export.quantization_plan import QuantizedGraphs, observe, quantized_variants
from dragoman_export.sentences import Direction, read_parallel, recipe_facts, spread
from dragoman_export.serving import ServedGraphs, SourceReader
from dragoman_export.shared_embedding import with_weights
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.data import DataError
from dragoman_model.transformer import Transformer
from dragoman_protos.v1.bundle_pb2 import Limits, Measurement, TestSet
from dragoman_server.explaining.graph import ExplainInput

_CALIBRATION_SENTENCES = 600

Exporter = Callable[[Transformer, Path], GraphPaths]
"""Writes graphs into a folder."""


def export_translation(
    job: ExportJob, *, exporter: Exporter = export_graphs, half_exporter: Exporter = export_half_graphs
) -> ExportResult:
    """Export an encoder-decoder model; the errors are those of ``export_bundle``."""
    return _Export(job, exporter, half_exporter).run()


class _Export:
    """The steps of one export, with what they share."""

    def __init__(self, job: ExportJob, exporter: Exporter, half_exporter: Exporter) -> None:
        options, trained = job.options, trained_as(job.trained, Transformer)
        columns = _columns(options, trained)
        self.job, self.options, self.stages, self.trained, self.exporter = job, options, job.stages, trained, exporter
        self.half_exporter = half_exporter
        self.text, self.calibration = (read_parallel(paths, columns) for paths in (options.data, options.calibration))
        self.manifest = describe_translation(trained, name=job.name, limits=_limits(options, trained))
        self.directions = [Direction(*pair) for pair in trained.provenance.directions]
        self.reader = SourceReader(trained.tokenizer, self.manifest)
        self.bench = TestBench(
            self.text, self.text.directions(self.directions), self.reader, self.manifest.limits.target_tokens
        )

    def run(self) -> ExportResult:
        for report in (self.text.report, self.calibration.report):
            if report:
                self.stages.say(report)
        if self.reader.shortened:
            self.stages.say(f"{self.reader.shortened} sentences of the test set were cut to the longest source")
        with self.stages.stage("graphs"):
            graphs = {"fp32": self.exporter(self.trained.model, self.job.folder / "fp32")}
            if "fp16" in self.options.precisions:
                graphs["fp16"] = self.half_exporter(self.trained.model, self.job.folder / "fp16")
        greedy = self.bench.by_pytorch(self.trained.model, self.stages)
        expected = {GREEDY: self.bench.scores(greedy)}
        measurements = {name: self._decode(name, paths, greedy) for name, paths in graphs.items()}
        quantized, measurements["int8"] = self._quantize(graphs["fp32"], greedy)
        graphs["int8"] = quantized.paths
        self._compare(graphs, greedy, measurements)
        judge(measurement for measurement, _ in measurements.values())
        beam = self.bench.by_pytorch(self.trained.model, self.stages, beam_size=BEAM_SIZE)
        expected[BEAM] = self.bench.scores(beam)
        measured = [pytorch_measurement(expected), *(measurement for measurement, _ in measurements.values())]
        self.manifest.certificate.CopyFrom(issue(self._test_set(), measured))
        explain = add_explain(self.job, self.manifest, self._attention_inputs(greedy))
        record = self._record(graphs, greedy, quantized.description)
        written = {precision: graphs[precision]._asdict() for precision in self.options.precisions}
        complete = write_bundle(
            self.options.output,
            self.manifest,
            self.trained,
            written,
            record,
            files=explain | self.job.shared_files,
            overwrite=self.options.overwrite,
        )
        return ExportResult(complete, quantized.description)

    def _decode(self, precision: str, paths: GraphPaths, greedy: Outputs) -> tuple[Measurement, Outputs]:
        """Serve the whole test set and score it."""
        with ServedGraphs(*paths, self.manifest) as served:
            outputs = self.bench.by_graphs(served, precision, self.stages)
            provider = served.provider
        quality = greedy_quality(self.bench.scores(greedy), self.bench.scores(outputs))
        hashes = {graph_path(precision, path.name): sha256(path) for path in with_weights(paths)}
        return Measurement(precision=precision, provider=provider, quality=quality, graph_sha256=hashes), outputs

    def _quantize(self, fp32: GraphPaths, greedy: Outputs) -> tuple[QuantizedGraphs, tuple[Measurement, Outputs]]:
        """The first way to quantise that keeps BLEU; the last one tried where none does."""
        sources = self._calibration_sources()
        with self.stages.stage("calibration"):
            targets = reference.translate(self.trained.model, sources, max_length=self.bench.max_length)
            fed = [reference.fed_part(target, self.bench.max_length) for target in targets]
            observed = observe(fp32, self.manifest, sources, fed, self.job.threads)
        result = None
        for quantized in quantized_variants(observed, self.job.folder / "int8", shared=self.job.shared):
            measured = self._decode("int8", quantized.paths, greedy)
            result = quantized, measured
            misses = list(bleu_misses(measured[0]))
            if not misses:
                break
            self.stages.say(f"{quantized.description}: {'; '.join(misses)}")
        assert result is not None
        return result

    def _calibration_sources(self) -> list[list[int]]:
        """Several hundred sentences spread over the file, the directions by turns."""
        by_direction = [self.calibration.sentences(direction).sources for direction in self.bench.directions]
        lines = spread(len(self.calibration.pairs), _CALIBRATION_SENTENCES)
        ways = len(by_direction)
        return [
            self.reader.encode(by_direction[number % ways][line], self.bench.directions[number % ways].target)
            for number, line in enumerate(lines)
        ]

    def _compare(
        self,
        graphs: dict[str, GraphPaths],
        greedy: Outputs,
        measurements: dict[str, tuple[Measurement, Outputs]],
    ) -> None:
        sources, targets = self.bench.parity_part(self.bench.sources), self.bench.parity_part(greedy)
        stepped = {name: stepped_graphs(*paths, self.manifest, self.job.threads) for name, paths in graphs.items()}
        with self.stages.stage("parity", total=len(sources)) as advance:
            comparison = compare_logits(
                self.trained.model, stepped, sources, targets, max_length=self.bench.max_length, advance=advance
            )
        for measurement, outputs in measurements.values():
            add_parity(measurement, self.bench.sentences, targets, self.bench.parity_part(outputs), comparison)

    def _attention_inputs(self, greedy: Outputs) -> list[ExplainInput]:
        """What PyTorch reads while it decodes the parity sentences."""
        bos, most = self.manifest.special_ids.bos, self.bench.max_length
        pairs = zip(self.bench.parity_part(self.bench.sources), self.bench.parity_part(greedy), strict=True)
        return [ExplainInput(source, [bos, *reference.fed_part(target, most)]) for source, target in pairs]

    def _record(self, graphs: dict[str, GraphPaths], greedy: Outputs, quantization: str) -> ParityRecord:
        with self.stages.stage("probes"):
            probes = record_probes(self.trained, self.reader, self.bench.directions, self.bench.max_length)
            measured: dict[str, ProbeResult] = {}
            for precision in self.options.precisions:
                stepped = stepped_graphs(*graphs[precision], self.manifest, self.job.threads)
                with ServedGraphs(*graphs[precision], self.manifest) as served:
                    found = served.translate([p.source_ids for p in probes], max_length=self.bench.max_length)
                measured[precision] = measure_probes(stepped, probes, found)
        outputs = self.bench.parity_part(greedy)
        return ParityRecord(
            columns=self.text.columns,
            directions=[(d.source, d.target) for d in self.bench.directions],
            max_length=self.bench.max_length,
            quantization=quantization,
            probes=probes,
            measured=measured,
            sentences=[
                (sentence.line, str(sentence.direction), output_hash(ids))
                for sentence, ids in zip(self.bench.sentences, outputs, strict=True)
            ],
        )

    def _test_set(self) -> TestSet:
        provenance = self.trained.provenance
        own = all(path.name in recipe_facts(provenance).test_files for path in self.options.data)
        return TestSet(
            name=self.text.name,
            sha256=self.text.sha256,
            sentences=len(self.text.pairs),
            licence=provenance.licence if own else "",
        )


def _columns(options: ExportOptions, trained: TrainedModel[Transformer]) -> tuple[str, str]:
    columns = options.columns or recipe_facts(trained.provenance).columns
    if columns is None:
        raise DataError("the checkpoint does not say which languages the columns hold: --columns does, as in en,de")
    codes = [language.code for language in trained.provenance.languages]
    unknown = [code for code in columns if code not in codes]
    if unknown:
        raise DataError(f"columns = {','.join(columns)}: the model's languages are {', '.join(codes)}")
    return columns


def _limits(options: ExportOptions, trained: TrainedModel[Transformer]) -> Limits:
    """As long as the sentences that the model was trained on: beyond, it has learnt nothing."""
    longest = trained.model.config.max_length
    learnt = min(recipe_facts(trained.provenance).max_tokens or longest, longest)
    source = learnt if options.source_tokens is None else options.source_tokens
    target = learnt if options.target_tokens is None else options.target_tokens
    faults = [
        f"{name} = {value}: 3 to the model's max_length, {longest}"
        for name, value in (("source_tokens", source), ("target_tokens", target))
        if not 3 <= value <= longest
    ]
    if faults:
        raise ExportError("; ".join(faults))
    return Limits(source_tokens=source, target_tokens=target)
