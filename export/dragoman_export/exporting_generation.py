"""The export of a decoder-only model: certified by how well it knows a text that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dragoman_export.bundle_writer import graph_path, sha256, write_bundle
from dragoman_export.certificate import CertificateError, issue
from dragoman_export.describing import describe_generation
from dragoman_export.explain_step import add_explain
from dragoman_export.export_job import ExportError, ExportJob, ExportResult
from dragoman_export.language_graph import export_half_language_graph, export_language_graph
from dragoman_export.language_measuring import (
    COMPARED_ROWS,
    LanguageBench,
    add_language_parity,
    compare_language_logits,
    language_misses,
    nats_metric,
    nats_misses,
    pytorch_language_measurement,
)
from dragoman_export.language_probes import (
    PROBE_TOKENS,
    LanguageRecord,
    measure_language_probes,
    record_language_probes,
)
from dragoman_export.language_quantization import (
    QuantizedLanguageGraph,
    observe_language_graph,
    quantized_language_graphs,
)
from dragoman_export.language_serving import ServedLanguageModel, prompt_runtime
from dragoman_export.language_texts import read_calibration, read_measured, text_shares
from dragoman_export.probes import ProbeResult, output_hash
from dragoman_export.sentences import recipe_facts, spread
from dragoman_export.shared_embedding import with_weights
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.language_model import LanguageModel
from dragoman_protos.v1.bundle_pb2 import Limits, Measurement, TestSet
from dragoman_server.explaining.graph import ExplainInput

_CALIBRATION_WINDOWS = 200

Exporter = Callable[[LanguageModel, Path], Path]
"""Writes a graph into a folder."""
Measured = tuple[Measurement, list[list[int]]]
"""The figures of one precision so far, and its greedy continuations."""


def export_generation(
    job: ExportJob,
    trained: TrainedModel[LanguageModel],
    *,
    exporter: Exporter = export_language_graph,
    half_exporter: Exporter = export_half_language_graph,
) -> ExportResult:
    """Export a decoder-only model; the errors are those of ``export_bundle``."""
    return _Export(job, trained, exporter, half_exporter).run()


class _Export:
    """The steps of one export, with what they share."""

    def __init__(
        self, job: ExportJob, trained: TrainedModel[LanguageModel], exporter: Exporter, half_exporter: Exporter
    ) -> None:
        options = job.options
        self.job, self.stages, self.trained, self.exporter = job, job.stages, trained, exporter
        self.half_exporter = half_exporter
        self.manifest = describe_generation(trained, name=job.name, limits=_limits(job, trained))
        self.window = self.manifest.limits.target_tokens
        self.shares = text_shares(trained.provenance)
        self.text = read_measured(options.data, self.shares, trained.tokenizer)
        self.calibration = read_calibration(options.calibration, self.shares, trained.tokenizer)
        self.bench = LanguageBench(self.text, self.window, self.manifest.special_ids.bos)

    def run(self) -> ExportResult:
        model, options = self.trained.model, self.job.options
        with self.stages.stage("graph"):
            graphs = {"fp32": self.exporter(model, self.job.folder / "fp32")}
            if "fp16" in options.precisions:
                graphs["fp16"] = self.half_exporter(model, self.job.folder / "fp16")
        greedy = self.bench.by_pytorch(model, self.stages)
        nats = self.bench.nats_by_pytorch(model, self.stages)
        measured = {name: self._measure(name, path, nats) for name, path in graphs.items()}
        quantized, measured["int8"] = self._quantize(graphs["fp32"], nats)
        graphs["int8"] = quantized.path
        self._compare(graphs, greedy, measured)
        misses = list(language_misses(measurement for measurement, _ in measured.values()))
        if misses:
            raise CertificateError(misses)
        measurements = [pytorch_language_measurement(nats), *(measurement for measurement, _ in measured.values())]
        self.manifest.certificate.CopyFrom(issue(self._test_set(), measurements))
        explain = add_explain(self.job, self.manifest, self._attention_inputs(greedy))
        written = {precision: graphs[precision] for precision in options.precisions}
        complete = write_bundle(
            options.output,
            self.manifest,
            self.trained,
            {precision: {"decoder": path} for precision, path in written.items()},
            self._record(written, greedy, quantized.description),
            files=explain | self.job.shared_files,
            overwrite=options.overwrite,
        )
        return ExportResult(complete, quantized.description)

    def _attention_inputs(self, greedy: list[list[int]]) -> list[ExplainInput]:
        """What PyTorch reads while it continues the prompts."""
        pairs = zip(self.bench.prompts, greedy, strict=True)
        return [ExplainInput(target=[*prompt, *found][: self.window]) for prompt, found in pairs]

    def _measure(self, precision: str, path: Path, nats: float) -> Measured:
        """Let the serving engine continue the prompts and score the text."""
        with ServedLanguageModel(path, self.manifest) as served:
            outputs = self.bench.by_graph(served, precision, self.stages)
            metric = nats_metric(nats, self.bench.nats_by_graph(served, precision, self.stages))
            provider = served.provider
        hashes = {graph_path(precision, file.name): sha256(file) for file in with_weights([path])}
        return Measurement(precision=precision, provider=provider, metrics=[metric], graph_sha256=hashes), outputs

    def _quantize(self, fp32: Path, nats: float) -> tuple[QuantizedLanguageGraph, Measured]:
        """The first way to quantise that keeps the nats per character; the last one tried where none does."""
        with self.stages.stage("calibration"):
            observed = observe_language_graph(fp32, self._calibration_windows(), self.job.threads)
        result = None
        for quantized in quantized_language_graphs(observed, self.job.folder / "int8", shared=self.job.shared):
            result = quantized, self._measure("int8", quantized.path, nats)
            misses = list(nats_misses(result[1][0]))
            if not misses:
                break
            self.stages.say(f"{quantized.description}: {'; '.join(misses)}")
        assert result is not None
        return result

    def _calibration_windows(self) -> list[list[int]]:
        """Windows spread over the text that was trained on, each behind a bos."""
        size, bos = self.window - 1, self.manifest.special_ids.bos
        windows = [
            [bos, *ids[begin : begin + size]]
            for ids in self.calibration.documents
            for begin in range(0, len(ids), size)
        ]
        return [windows[i] for i in spread(len(windows), _CALIBRATION_WINDOWS)]

    def _compare(self, graphs: dict[str, Path], greedy: list[list[int]], measured: dict[str, Measured]) -> None:
        runtimes = {name: prompt_runtime(path, self.manifest, COMPARED_ROWS) for name, path in graphs.items()}
        with self.stages.stage("parity", total=len(greedy)) as advance:
            comparison = compare_language_logits(
                self.trained.model,
                runtimes,
                self.bench.prompts,
                greedy,
                new_tokens=self.bench.new_tokens,
                advance=advance,
            )
        for measurement, outputs in measured.values():
            add_language_parity(measurement, greedy, outputs, comparison)

    def _record(self, graphs: dict[str, Path], greedy: list[list[int]], quantization: str) -> LanguageRecord:
        new_tokens = max(1, min(PROBE_TOKENS, self.window // 2))
        with self.stages.stage("probes"):
            probes = record_language_probes(self.trained.model, self.trained.tokenizer, self.manifest, new_tokens)
            measured: dict[str, ProbeResult] = {}
            for precision, path in graphs.items():
                with ServedLanguageModel(path, self.manifest) as served:
                    found = served.generate([probe.prompt_ids for probe in probes], new_tokens)
                runtime = prompt_runtime(path, self.manifest, COMPARED_ROWS)
                measured[precision] = measure_language_probes(runtime, probes, found)
        return LanguageRecord(
            shares=self.shares,
            quantization=quantization,
            probe_tokens=new_tokens,
            probes=probes,
            measured=measured,
            continuations=[output_hash(ids) for ids in greedy],
        )

    def _test_set(self) -> TestSet:
        own = all(path.name in self.trained.provenance.recipe for path in self.job.options.data)
        return TestSet(
            name=self.text.name,
            sha256=self.text.sha256,
            sentences=self.text.lines,
            licence=self.trained.provenance.licence if own else "",
        )


def _limits(job: ExportJob, trained: TrainedModel[LanguageModel]) -> Limits:
    """As long as the windows that the model was trained on: beyond, it has learnt nothing."""
    options, longest = job.options, trained.model.config.max_length
    learnt = min(recipe_facts(trained.provenance).max_tokens or longest, longest)
    window = learnt if options.target_tokens is None else options.target_tokens
    faults = []
    if not 4 <= window <= longest:
        faults.append(f"target_tokens = {window}: 4 to the model's max_length, {longest}")
    if options.source_tokens is not None:
        faults.append(f"source_tokens = {options.source_tokens}: a decoder has no source")
    if options.columns is not None:
        faults.append(f"columns = {','.join(options.columns)}: a decoder has no languages")
    if faults:
        raise ExportError("; ".join(faults))
    return Limits(target_tokens=window)
