"""What ``dragoman verify`` checks of an encoder-only bundle: probes, and what is decided about the test set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dragoman_export.certificate import PYTORCH
from dragoman_export.checks import (
    PROBES_TOLERANCE,
    SHARE_TOLERANCE,
    Check,
    Subject,
    checkpoint_check,
    data_check,
    logit_limit,
)
from dragoman_export.encoder_measuring import EncoderBench, encoder_misses, max_with_nan, served_encoder
from dragoman_export.encoder_passes import Passes, by_pytorch, largest_difference
from dragoman_export.encoder_probes import measure_encoder_probes, read_encoder_record
from dragoman_export.encoder_texts import TextReader, TextSet
from dragoman_export.explain_step import attention_checks
from dragoman_export.exporting_encoder import measured_texts
from dragoman_model.text_encoder import TextEncoder
from dragoman_model.tokenizer import protect
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.explaining.graph import ExplainInput
from dragoman_server.pass_runtime import EncoderOutput


def encoder_checks(subject: Subject) -> Iterator[Check]:
    """Of an encoder-only bundle: what it says of its probes and of its test set.

    ProbesError where parity.json cannot be read, DataError for data that cannot.
    """
    return _Verifier(subject).checks()


class _Verifier:
    """The checks of one sound bundle, with what they share."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.manifest, self.stages = subject, subject.manifest, subject.stages
        self.record = read_encoder_record(subject.path)
        first = next(iter(subject.loaded.values()))
        self.reader = TextReader(self.record.source, protect(first.tokenizer), self.manifest)
        self.test: TextSet | None = self.reader.read(subject.data, "test") if subject.data else None

    def checks(self) -> Iterator[Check]:
        """In the order of the report."""
        misses = list(encoder_misses(self.manifest.certificate.measurements))
        yield Check("certificate's limits for an encoder", "met", "; ".join(misses) or "met", good=not misses)
        for precision, loaded in self.subject.loaded.items():
            yield from self._probes(precision, loaded.encoder)
        probes = [ExplainInput(probe.ids, segments=probe.segments or ()) for probe in self.record.probes]
        yield from attention_checks(self.subject, probes)
        pytorch: Passes | None = None
        if self.subject.trained is not None:
            trained = self.subject.trained
            yield checkpoint_check(self.manifest, trained)
            if not isinstance(trained.model, TextEncoder):
                yield Check("checkpoint's model", TextEncoder.__name__, type(trained.model).__name__, good=False)
                return
            pytorch = by_pytorch(trained.model)
            yield self._checkpoint(pytorch)
        if self.test is not None:
            same = data_check(self.manifest, self.test.sha256)
            yield same
            if same.good:
                yield from self._test_set(self.test, pytorch)

    def _probes(self, precision: str, path: Path) -> Iterator[Check]:
        probes, known = self.record.probes, self.record.measured.get(precision)
        if known is None or not probes:
            yield Check(f"{precision}: probes", "recorded", "none", good=False)
            return
        with self.stages.stage(f"{precision} probes"):
            found = measure_encoder_probes(served_encoder(path, self.manifest).run, probes)
        limit = logit_limit(precision, known.max_logit_difference)
        yield Check(
            f"{precision}: probes, largest difference",
            f"below {limit:.3g}",
            f"{found.max_logit_difference:.3g}",
            good=found.max_logit_difference < limit,
        )
        yield Check(
            f"{precision}: probes decided as by PyTorch",
            f"{known.identical} of {len(probes)}",
            str(found.identical),
            good=found.identical >= known.identical - PROBES_TOLERANCE,
        )

    def _checkpoint(self, pytorch: Passes) -> Check:
        with self.stages.stage("PyTorch, probes"):
            found = measure_encoder_probes(pytorch, self.record.probes)
        limit = logit_limit("fp32", 0.0)
        good = found.max_logit_difference < limit
        return Check("PyTorch: probes", f"within {limit:g}", f"{found.max_logit_difference:.3g}", good=good)

    def _test_set(self, test: TextSet, pytorch: Passes | None) -> Iterator[Check]:
        fills_masks = Bundle.TASK_FILL_MASK in self.manifest.tasks
        bench = EncoderBench(measured_texts(test.texts, self.reader, fills_masks=fills_masks))
        expected: list[list[EncoderOutput]] | None = None
        if pytorch is not None:
            expected = bench.outputs(pytorch, "PyTorch", self.stages)
            yield from self._figures(PYTORCH, bench.figures(expected))
        for precision, loaded in self.subject.loaded.items():
            runtime = served_encoder(loaded.encoder, self.manifest)
            outputs = bench.outputs(runtime.run, f"{precision}, served", self.stages)
            yield from self._figures(precision, bench.figures(outputs))
            if expected is not None:
                yield self._difference(precision, expected, outputs)

    def _figures(self, precision: str, found: dict[str, float]) -> Iterator[Check]:
        measured = self.subject.measurement(precision)
        certified = {metric.name: metric.value for metric in measured.metrics} if measured is not None else {}
        for name, value in found.items():
            wanted = certified.get(name)
            good = wanted is not None and abs(value - wanted) <= SHARE_TOLERANCE
            shown = "certified" if wanted is None else f"{wanted:.4f}"
            yield Check(f"{precision}: {name}", shown, f"{value:.4f}", good=good)

    def _difference(
        self, precision: str, expected: list[list[EncoderOutput]], outputs: list[list[EncoderOutput]]
    ) -> Check:
        pairs = zip(expected, outputs, strict=True)
        largest = max_with_nan([largest_difference(one, two) for one, two in pairs])
        measured = self.subject.measurement(precision)
        limit = logit_limit(precision, measured.max_logit_difference if measured is not None else 0.0)
        name = f"{precision}: largest difference of an output from PyTorch"
        return Check(name, f"below {limit:.3g}", f"{largest:.3g}", good=largest < limit)
