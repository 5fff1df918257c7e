"""Openings of our own, with what PyTorch made of them: a bundle is compared with PyTorch without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from dragoman_export.bundle_writer import PARITY_FILE
from dragoman_export.language_measuring import stepped_logits
from dragoman_export.language_reference import continue_greedily, forced_logits
from dragoman_export.language_texts import TextShares
from dragoman_export.probes import PROBES, ProbeResult, ProbesError, ProbeStep, probe_steps, step_difference
from dragoman_export.reference import fed_part
from dragoman_model.language_model import LanguageModel
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.prompt_runtime import OnnxPromptRuntime

_LANGUAGE = "en"
PROBE_TOKENS = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageProbe(_Frozen):
    """An opening, PyTorch's greedy continuation of it, and PyTorch's candidates along that."""

    text: str
    prompt_ids: list[int]
    new_ids: list[int]
    steps: list[ProbeStep]


class LanguageRecord(_Frozen):
    """All of a language model's parity.json."""

    format_version: Literal[1] = 1
    shares: TextShares
    """How the test set is read."""
    quantization: str
    """How the int8 graph was made."""
    probe_tokens: int
    """Most new tokens of a probe."""
    probes: list[LanguageProbe]
    measured: dict[str, ProbeResult]
    continuations: list[str]
    """Hashes of PyTorch's greedy continuations of the test set's prompts."""


def record_language_probes(
    model: LanguageModel, tokenizer: Tokenizer, manifest: Bundle, new_tokens: int
) -> list[LanguageProbe]:
    """PyTorch's greedy continuations and candidates for our own openings."""
    longest = manifest.limits.target_tokens - new_tokens
    probes = []
    for text in PROBES[_LANGUAGE]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        prompt = [manifest.special_ids.bos, *ids][: max(1, longest)]
        (found,) = continue_greedily(model, [prompt], new_tokens)
        steps = probe_steps(forced_logits(model, prompt, fed_part(found, new_tokens)))
        probes.append(LanguageProbe(text=text, prompt_ids=prompt, new_ids=found, steps=steps))
    return probes


def measure_language_probes(
    runtime: OnnxPromptRuntime, probes: Sequence[LanguageProbe], found: Sequence[Sequence[int]]
) -> ProbeResult:
    """Largest difference of a recorded logit or log-sum-exp, and how many continuations ``found`` are PyTorch's."""
    largest = 0.0
    for begin in range(0, len(probes), runtime.max_rows):
        some = probes[begin : begin + runtime.max_rows]
        fed = [probe.new_ids[: len(probe.steps) - 1] for probe in some]
        for probe, logits in zip(some, stepped_logits(runtime, [p.prompt_ids for p in some], fed), strict=True):
            for row, expected in zip(logits, probe.steps, strict=True):
                largest = float(np.max([largest, step_difference(row, expected)]))  # NaN outranks every number
    identical = sum(list(ids) == probe.new_ids for ids, probe in zip(found, probes, strict=True))
    return ProbeResult(max_logit_difference=largest, identical=identical)


def read_language_record(bundle: Path) -> LanguageRecord:
    """Read the parity.json of a language model's bundle. ProbesError lists what is wrong with it."""
    path = bundle / PARITY_FILE
    try:
        return LanguageRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ProbesError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or PARITY_FILE}: {fault['msg']}" for fault in error.errors()]
        raise ProbesError(f"{path}: {'; '.join(faults)}") from error
