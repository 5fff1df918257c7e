"""The export of an encoder-only model: certified by what it decides about texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dragoman_export.bundle_writer import graph_path, sha256, write_bundle
from dragoman_export.certificate import CertificateError, issue
from dragoman_export.describing_encoder import describe_encoder
from dragoman_export.encoder_measured import MeasuredMasks, MeasuredTexts
from dragoman_export.encoder_measuring import EncoderBench, encoder_misses, served_encoder
from dragoman_export.encoder_passes import by_pytorch
from dragoman_export.encoder_probes import EncoderRecord, measure_encoder_probes, record_encoder_probes
from dragoman_export.encoder_quantization import QuantizedEncoder, observe_encoder, quantized_encoders
from dragoman_export.encoder_texts import TextReader, text_source
from dragoman_export.explain_step import add_explain
from dragoman_export.export_job import ExportError, ExportJob, ExportResult
from dragoman_export.sentences import recipe_facts, spread
from dragoman_export.shared_embedding import with_weights
from dragoman_export.text_encoder_graph import export_text_encoder
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.text_encoder import TextEncoder
from dragoman_protos.v1.bundle_pb2 import Bundle, Limits, Measurement, TestSet
from dragoman_server.explaining.graph import ExplainInput
from dragoman_server.pass_runtime import EncoderInput

_CALIBRATION_TEXTS, _HIDDEN_TEXTS = 600, 1000

Exporter = Callable[[TextEncoder, Path], Path]
"""Writes a float32 graph into a folder."""


def export_encoder(
    job: ExportJob, trained: TrainedModel[TextEncoder], *, exporter: Exporter = export_text_encoder
) -> ExportResult:
    """Export an encoder-only model; the errors are those of ``export_bundle``."""
    return _Export(job, trained, exporter).run()


class _Export:
    """The steps of one export, with what they share."""

    def __init__(self, job: ExportJob, trained: TrainedModel[TextEncoder], exporter: Exporter) -> None:
        options = job.options
        self.job, self.stages, self.trained, self.exporter = job, job.stages, trained, exporter
        self.manifest = describe_encoder(trained, name=job.name, limits=_limits(job, trained))
        self.fills_masks = Bundle.TASK_FILL_MASK in self.manifest.tasks
        self.source = text_source(trained.provenance)
        self.reader = TextReader(self.source, trained.tokenizer, self.manifest)
        self.test = self.reader.read(options.data, "test")
        calibration = self.reader.read(options.calibration, "train")
        self.calibration = [
            calibration.texts.inputs[i] for i in spread(len(calibration.texts.inputs), _CALIBRATION_TEXTS)
        ]
        self.bench = EncoderBench(measured_texts(self.test.texts, self.reader, fills_masks=self.fills_masks))
        self.pytorch = by_pytorch(trained.model)

    def run(self) -> ExportResult:
        if self.test.shortened:
            self.stages.say(f"{self.test.shortened} texts of the test set were cut to the longest that is taken")
        with self.stages.stage("graph"):
            graphs = {"fp32": self.exporter(self.trained.model, self.job.folder / "fp32")}
        self.bench.expect(self.bench.outputs(self.pytorch, "PyTorch", self.stages))
        measurements = {"fp32": self._measure("fp32", graphs["fp32"])}
        quantized, measurements["int8"] = self._quantize(graphs["fp32"])
        graphs["int8"] = quantized.path
        misses = list(encoder_misses(measurements.values()))
        if misses:
            raise CertificateError(misses)
        measured = [self.bench.pytorch_measurement(), *measurements.values()]
        self.manifest.certificate.CopyFrom(issue(self._test_set(), measured))
        texts = [ExplainInput(one.ids, segments=one.segments or ()) for one in self.test.texts.inputs]
        explain = add_explain(self.job, self.manifest, texts)
        written = {precision: graphs[precision] for precision in self.job.options.precisions}
        complete = write_bundle(
            self.job.options.output,
            self.manifest,
            self.trained,
            {precision: {"encoder": path} for precision, path in written.items()},
            self._record(written, quantized.description),
            files=explain | self.job.shared_files,
            overwrite=self.job.options.overwrite,
        )
        return ExportResult(complete, quantized.description)

    def _measure(self, precision: str, path: Path) -> Measurement:
        runtime = served_encoder(path, self.manifest)
        outputs = self.bench.outputs(runtime.run, f"{precision}, served", self.stages)
        hashes = {graph_path(precision, file.name): sha256(file) for file in with_weights([path])}
        return self.bench.measurement(precision, runtime.provider, outputs, hashes)

    def _quantize(self, fp32: Path) -> tuple[QuantizedEncoder, Measurement]:
        """The first way to quantise that keeps all figures; the last one tried where none does."""
        inputs: list[EncoderInput] = [*self.calibration]
        if self.fills_masks:
            inputs += self.reader.hide(self.calibration).inputs
        with self.stages.stage("calibration"):
            observed = observe_encoder(fp32, inputs, self.job.threads)
        result = None
        for quantized in quantized_encoders(observed, self.job.folder / "int8", shared=self.job.shared):
            result = quantized, self._measure("int8", quantized.path)
            misses = list(encoder_misses([result[1]]))
            if not misses:
                break
            self.stages.say(f"{quantized.description}: {'; '.join(misses)}")
        assert result is not None
        return result

    def _record(self, graphs: dict[str, Path], quantization: str) -> EncoderRecord:
        with self.stages.stage("probes"):
            probes = record_encoder_probes(self.pytorch, self.reader, fills_masks=self.fills_masks)
            measured = {
                precision: measure_encoder_probes(served_encoder(path, self.manifest).run, probes)
                for precision, path in graphs.items()
            }
        return EncoderRecord(source=self.source, quantization=quantization, probes=probes, measured=measured)

    def _test_set(self) -> TestSet:
        own = all(path.name in self.trained.provenance.recipe for path in self.job.options.data)
        return TestSet(
            name=self.test.name,
            sha256=self.test.sha256,
            sentences=len(self.test.texts.inputs),
            licence=self.trained.provenance.licence if own else "",
        )


def measured_texts(texts: MeasuredTexts, reader: TextReader, *, fills_masks: bool) -> list[MeasuredTexts]:
    """The test set, and some of its texts with a token hidden where the model fills masks beside what it is for."""
    if not fills_masks or isinstance(texts, MeasuredMasks):
        return [texts]
    return [texts, reader.hide([texts.inputs[i] for i in spread(len(texts.inputs), _HIDDEN_TEXTS)])]


def _limits(job: ExportJob, trained: TrainedModel[TextEncoder]) -> Limits:
    """As long as the texts that the model was trained on: beyond, it has learnt nothing."""
    longest = trained.model.config.max_length
    learnt = min(recipe_facts(trained.provenance).max_tokens or longest, longest)
    source = learnt if job.options.source_tokens is None else job.options.source_tokens
    faults = []
    if not 3 <= source <= longest:
        faults.append(f"source_tokens = {source}: 3 to the model's max_length, {longest}")
    if job.options.target_tokens is not None:
        faults.append(f"target_tokens = {job.options.target_tokens}: an encoder has no target")
    if job.options.columns is not None:
        faults.append(f"columns = {','.join(job.options.columns)}: an encoder has no languages")
    if "fp16" in job.options.precisions:
        faults.append("precision = fp16: int8 or fp32, an encoder has no caches for a GPU to keep")
    if faults:
        raise ExportError("; ".join(faults))
    return Limits(source_tokens=source)
