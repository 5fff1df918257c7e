"""What ``dragoman verify`` checks of a decoder-only bundle: probes, and the text that it was measured on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dragoman_export.certificate import MAX_LOGIT_DIFFERENCE, PYTORCH
from dragoman_export.checks import (
    PROBES_TOLERANCE,
    SHARE_TOLERANCE,
    Check,
    Subject,
    checkpoint_check,
    data_check,
    logit_limit,
)
from dragoman_export.explain_step import attention_checks
from dragoman_export.export_job import trained_as
from dragoman_export.language_measuring import (
    COMPARED_ROWS,
    MAX_NATS_LOSS,
    NATS,
    LanguageBench,
    compare_language_logits,
    nats_misses,
)
from dragoman_export.language_probes import measure_language_probes, read_language_record, record_language_probes
from dragoman_export.language_serving import ServedLanguageModel, prompt_runtime
from dragoman_export.language_texts import TokenizedText, read_measured
from dragoman_export.probes import output_hash, step_differences
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.language_model import LanguageModel
from dragoman_model.tokenizer import protect
from dragoman_server.explaining.graph import ExplainInput


def generation_checks(subject: Subject) -> Iterator[Check]:
    """Of a decoder-only bundle: how it continues its probes, and how well it knows its test set.

    ProbesError where parity.json cannot be read, DataError for data that cannot.
    """
    return _Verifier(subject).checks()


class _Verifier:
    """The checks of one sound bundle, with what they share."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.manifest, self.stages = subject, subject.manifest, subject.stages
        self.record = read_language_record(subject.path)
        self.trained = None if subject.trained is None else trained_as(subject.trained, LanguageModel)
        tokenizer = protect(next(iter(subject.loaded.values())).tokenizer)
        self.text = read_measured(subject.data, self.record.shares, tokenizer) if subject.data else None

    def checks(self) -> Iterator[Check]:
        """In the order of the report."""
        misses = [miss for measured in self.manifest.certificate.measurements for miss in nats_misses(measured)]
        yield Check("certificate's limit of nats", "met", "; ".join(misses) or "met", good=not misses)
        for precision, loaded in self.subject.loaded.items():
            yield from self._probes(precision, loaded.decoder)
        probes = [ExplainInput(target=[*probe.prompt_ids, *probe.new_ids]) for probe in self.record.probes]
        yield from attention_checks(self.subject, probes)
        if self.trained is not None:
            yield from self._checkpoint(self.trained)
        if self.text is not None:
            same = data_check(self.manifest, self.text.sha256)
            yield same
            if same.good:
                yield from self._test_set(self.text)

    def _probes(self, precision: str, path: Path) -> Iterator[Check]:
        probes, known = self.record.probes, self.record.measured.get(precision)
        if known is None or not probes:
            yield Check(f"{precision}: probes", "recorded", "none", good=False)
            return
        with self.stages.stage(f"{precision} probes"), ServedLanguageModel(path, self.manifest) as served:
            found = served.generate([probe.prompt_ids for probe in probes], self.record.probe_tokens)
            runtime = prompt_runtime(path, self.manifest, COMPARED_ROWS)
            result = measure_language_probes(runtime, probes, found)
        limit = logit_limit(precision, known.max_logit_difference)
        yield Check(
            f"{precision}: probes, largest logit difference",
            f"below {limit:.3g}",
            f"{result.max_logit_difference:.3g}",
            good=result.max_logit_difference < limit,
        )
        yield Check(
            f"{precision}: probes, greedy continuations that are PyTorch's",
            f"{known.identical} of {len(probes)}",
            str(result.identical),
            good=result.identical >= known.identical - PROBES_TOLERANCE,
        )

    def _checkpoint(self, trained: TrainedModel[LanguageModel]) -> Iterator[Check]:
        yield checkpoint_check(self.manifest, trained)
        with self.stages.stage("PyTorch, probes"):
            again = record_language_probes(trained.model, trained.tokenizer, self.manifest, self.record.probe_tokens)
        pairs = list(zip(again, self.record.probes, strict=False))
        same, total = sum(a.new_ids == b.new_ids for a, b in pairs), len(self.record.probes)
        good = len(again) == total and same >= total - PROBES_TOLERANCE
        yield Check("PyTorch: probes, greedy continuations", f"{total}", f"{same}", good=good)
        differences = [step_differences(a.steps, a.new_ids, b.steps, b.new_ids) for a, b in pairs]
        largest = max(differences, default=0.0)
        good = largest < MAX_LOGIT_DIFFERENCE
        yield Check("PyTorch: probes, logits", f"within {MAX_LOGIT_DIFFERENCE:g}", f"{largest:.3g}", good=good)

    def _test_set(self, text: TokenizedText) -> Iterator[Check]:
        bench = LanguageBench(text, self.manifest.limits.target_tokens, self.manifest.special_ids.bos)
        if len(bench.prompts) != len(self.record.continuations):
            found = f"{len(bench.prompts)} prompts"
            yield Check("prompts", f"{len(self.record.continuations)} prompts", found, good=False)
            return
        for precision, loaded in self.subject.loaded.items():
            with ServedLanguageModel(loaded.decoder, self.manifest) as served:
                outputs = bench.by_graph(served, precision, self.stages)
                nats = bench.nats_by_graph(served, precision, self.stages)
            yield self._identical(precision, outputs)
            yield self._nats(precision, nats)
        if self.trained is not None:
            model = self.trained.model
            yield self._nats(PYTORCH, bench.nats_by_pytorch(model, self.stages))
            yield from self._logits(model, bench)

    def _identical(self, precision: str, outputs: list[list[int]]) -> Check:
        hashes = self.record.continuations
        share = sum(map(str.__eq__, hashes, map(output_hash, outputs))) / len(hashes)
        measured = self.subject.measurement(precision)
        wanted = measured.identical_greedy if measured is not None else 1.0
        name = f"{precision}: greedy continuations that are PyTorch's, {len(hashes)} prompts"
        return Check(name, f"{wanted:.1%}", f"{share:.1%}", good=share >= wanted - SHARE_TOLERANCE)

    def _nats(self, precision: str, nats: float) -> Check:
        measured = self.subject.measurement(precision)
        certified = {metric.name: metric.value for metric in measured.metrics} if measured is not None else {}
        wanted = certified.get(NATS)
        good = wanted is not None and abs(nats - wanted) <= MAX_NATS_LOSS
        shown = "certified" if wanted is None else f"{wanted:.4f}"
        return Check(f"{precision}: {NATS}", shown, f"{nats:.4f}", good=good)

    def _logits(self, model: LanguageModel, bench: LanguageBench) -> Iterator[Check]:
        greedy = bench.by_pytorch(model, self.stages)
        runtimes = {
            precision: prompt_runtime(loaded.decoder, self.manifest, COMPARED_ROWS)
            for precision, loaded in self.subject.loaded.items()
        }
        with self.stages.stage("parity", total=len(greedy)) as advance:
            comparison = compare_language_logits(
                model, runtimes, bench.prompts, greedy, new_tokens=bench.new_tokens, advance=advance
            )
        for precision, largest in comparison.largest.items():
            measured = self.subject.measurement(precision)
            limit = logit_limit(precision, measured.max_logit_difference if measured is not None else 0.0)
            name = f"{precision}: largest logit difference from PyTorch"
            yield Check(name, f"below {limit:.3g}", f"{largest:.3g}", good=largest < limit)
