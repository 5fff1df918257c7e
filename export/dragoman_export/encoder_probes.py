"""Sentences of our own, with what PyTorch said of them: an encoder's bundle is compared with that without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dragoman_export.bundle_writer import PARITY_FILE
from dragoman_export.encoder_measured import MeasuredMasks
from dragoman_export.encoder_passes import Passes, run_all
from dragoman_export.encoder_texts import TextReader, TextSource
from dragoman_export.probes import PROBES, ProbeResult, ProbesError
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, Floats

_DIGITS = 5
_LANGUAGE = "en"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderProbe(_Frozen):
    """A sentence, and what PyTorch said of it; empty where the model has no such head."""

    text: str
    ids: list[int]
    segments: list[int] | None
    masked: int | None
    """Place of the token that was hidden, if any."""
    first_state: list[float]
    """Of [CLS]."""
    label_logits: list[float]
    tag_logits: list[list[float]]
    """By token."""
    filling_ids: list[int]
    """The likeliest for the hidden token, best first."""
    filling_logits: list[float]

    @property
    def input(self) -> EncoderInput:
        """As the encoder takes it."""
        return EncoderInput(self.ids, self.segments, () if self.masked is None else (self.masked,))


class EncoderRecord(_Frozen):
    """All of an encoder's parity.json."""

    format_version: Literal[1] = 1
    source: TextSource
    """How the test set is read."""
    quantization: str
    """How the int8 graph was made."""
    probes: list[EncoderProbe]
    measured: dict[str, ProbeResult]


_CANDIDATES = 8


def record_encoder_probes(passes: Passes, reader: TextReader, *, fills_masks: bool) -> list[EncoderProbe]:
    """PyTorch's outputs for our own sentences, each once whole and, of a model that fills masks, once with one."""
    texts = PROBES[_LANGUAGE]
    inputs = reader.encode(texts)
    probes = [(text, asked) for text, asked in zip(texts, inputs, strict=True)]
    if fills_masks:
        hidden: MeasuredMasks = reader.hide(inputs)
        probes += zip(texts, hidden.inputs, strict=True)
    outputs = run_all(passes, [asked for _, asked in probes])
    return [_probe(text, asked, output) for (text, asked), output in zip(probes, outputs, strict=True)]


def _probe(text: str, asked: EncoderInput, output: EncoderOutput) -> EncoderProbe:
    masks = output.mask_logits if output.mask_logits is not None and asked.mask_positions else None
    best = [] if masks is None else np.argsort(-masks[0], kind="stable")[:_CANDIDATES].tolist()
    return EncoderProbe(
        text=text,
        ids=list(asked.ids),
        segments=None if asked.segments is None else list(asked.segments),
        masked=asked.mask_positions[0] if asked.mask_positions else None,
        first_state=_rounded(output.states[0]),
        label_logits=[] if output.label_logits is None else _rounded(output.label_logits),
        tag_logits=[] if output.tag_logits is None else [_rounded(logits) for logits in output.tag_logits],
        filling_ids=best,
        filling_logits=[] if masks is None else _rounded(masks[0][best]),
    )


def _rounded(values: Floats) -> list[float]:
    return [round(value, _DIGITS) for value in values.tolist()]


def measure_encoder_probes(passes: Passes, probes: Sequence[EncoderProbe]) -> ProbeResult:
    """Largest difference of a recorded number, and how many probes are decided as by PyTorch in everything."""
    largest, identical = 0.0, 0
    for probe, output in zip(probes, run_all(passes, [probe.input for probe in probes]), strict=True):
        found = _again(probe, output)
        compared = [
            (np.array(probe.first_state), output.states[0]),
            (np.array(probe.label_logits), found.label_logits),
            (np.array(probe.tag_logits), found.tag_logits),
            (np.array(probe.filling_logits), found.mask_logits),
        ]
        differences = [np.abs(one - two).max() for one, two in compared if two is not None and one.size]
        largest = float(np.max([largest, *differences]))  # NaN outranks every number
        decided = [
            bool((one.argmax(axis=-1) == two.argmax(axis=-1)).all())
            for one, two in compared[1:]
            if two is not None and one.size
        ]
        identical += all(decided)
    return ProbeResult(max_logit_difference=largest, identical=identical)


def _again(probe: EncoderProbe, output: EncoderOutput) -> EncoderOutput:
    """The output with just the recorded candidates of the hidden token."""
    if not probe.filling_ids or output.mask_logits is None:
        return output._replace(mask_logits=None)
    return output._replace(mask_logits=output.mask_logits[0][probe.filling_ids])


def read_encoder_record(bundle: Path) -> EncoderRecord:
    """Read the parity.json of an encoder's bundle. ProbesError lists what is wrong with it."""
    path = bundle / PARITY_FILE
    try:
        return EncoderRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ProbesError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or PARITY_FILE}: {fault['msg']}" for fault in error.errors()]
        raise ProbesError(f"{path}: {'; '.join(faults)}") from error
