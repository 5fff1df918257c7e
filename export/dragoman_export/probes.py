"""Forty sentences of our own, with what PyTorch said of them: a bundle can be compared with PyTorch without PyTorch.

``parity.json`` holds them, and a short hash of PyTorch's output for the parity sentences of the test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from dragoman_export.bundle_writer import PARITY_FILE
from dragoman_export.reference import best_candidates, fed_part, forced_logits, translate
from dragoman_export.sentences import Direction
from dragoman_export.serving import SourceReader
from dragoman_export.stepping import SteppedGraphs
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.transformer import Transformer

_CANDIDATES = 8

PROBES: Mapping[str, Sequence[str]] = {
    "en": (
        "Yes.",
        "Who is there?",
        "The kettle is whistling.",
        "I left my umbrella on the bus.",
        "Could you turn the music down a little?",
        "We are having soup and bread tonight.",
        "She paints small pictures of boats.",
        "Don't forget to water the plants on Friday.",
        "My brother has been learning the violin for six years.",
        "How long does the ferry to the island take?",
        "The old lift stopped between two floors again.",
        "If it snows tomorrow, the school will stay closed.",
        "Nobody noticed that the clock was ten minutes slow.",
        "He promised to call, but the telephone stayed silent.",
        "There were 27 chairs in the room and only three guests.",
        "The baker on the corner sells the best rolls in town.",
        "I would rather walk home than wait another hour for a taxi.",
        "After the storm, the neighbours helped each other to clear the fallen branches.",
        "Please send me the invoice by e-mail, since I no longer have a letter box.",
        "When my grandmother was young, she rode her bicycle to the factory every morning, even in the rain.",
    ),
    "de": (
        "Nein.",
        "Wer hat geklingelt?",
        "Der Kaffee ist kalt.",
        "Meine Schlüssel liegen im Auto.",
        "Kannst du bitte das Fenster schließen?",
        "Heute gibt es Kartoffeln mit Quark.",
        "Er sammelt alte Landkarten.",
        "Vergiss nicht, die Katze zu füttern!",
        "Unsere Nachbarn bauen seit zwei Jahren an ihrem Haus.",
        "Wie weit ist es von hier bis zum See?",
        "Der Aufzug ist schon wieder kaputt.",
        "Wenn es morgen regnet, bleiben wir zu Hause.",
        "Niemand hat gemerkt, dass die Uhr falsch ging.",
        "Sie wollte anrufen, aber ihr Telefon war leer.",
        "Im Saal standen 48 Stühle, doch es kamen nur fünf Gäste.",
        "Die Bäckerei an der Ecke hat die besten Brötchen der Stadt.",
        "Ich gehe lieber zu Fuß, als noch eine Stunde auf den Bus zu warten.",
        "Nach dem Sturm halfen alle zusammen, die umgestürzten Bäume wegzuräumen.",
        "Schicken Sie mir die Rechnung bitte per E-Mail, denn ich ziehe nächste Woche um.",
        "Als mein Großvater jung war, fuhr er jeden Morgen mit dem Fahrrad zur Arbeit, auch wenn es schneite.",
    ),
}


class ProbesError(Exception):
    """parity.json is missing or is not what it should be."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProbeStep(_Frozen):
    """PyTorch's best next tokens at one step, best first, and the log-sum-exp over the whole vocabulary."""

    ids: list[int]
    logits: list[float]
    log_sum_exp: float


class Probe(_Frozen):
    """A sentence, PyTorch's greedy output for it, and PyTorch's candidates along it."""

    text: str
    source_language: str
    target_language: str
    source_ids: list[int]
    target_ids: list[int]
    steps: list[ProbeStep]


class ProbeResult(_Frozen):
    """What one precision made of the probes when the bundle was written."""

    max_logit_difference: float
    identical: int


class ParityRecord(_Frozen):
    """All of parity.json."""

    format_version: Literal[1] = 1
    columns: tuple[str, str]
    """Languages of the test set's columns."""
    directions: list[tuple[str, str]]
    max_length: int
    """Most target tokens of every decode, end-of-sentence included."""
    quantization: str
    """How the int8 graphs were made."""
    probes: list[Probe]
    measured: dict[str, ProbeResult]
    sentences: list[tuple[int, str, str]]
    """Line of the test set, direction, hash of PyTorch's greedy output."""


def record_probes(
    trained: TrainedModel[Transformer], reader: SourceReader, directions: Sequence[Direction], max_length: int
) -> list[Probe]:
    """PyTorch's greedy outputs and candidates for our own sentences."""
    texts = _texts(directions)
    sources = [reader.encode(text, direction.target) for direction, text in texts]
    targets = translate(trained.model, sources, max_length=max_length)
    return [
        _record(trained.model, direction, text, source=source, target=target, max_length=max_length)
        for (direction, text), source, target in zip(texts, sources, targets, strict=True)
    ]


def _texts(directions: Sequence[Direction]) -> list[tuple[Direction, str]]:
    """The sentences that a model of these directions can be asked."""
    return [(direction, text) for direction in directions for text in PROBES.get(direction.source, ())]


def _record(
    model: Transformer,
    direction: Direction,
    text: str,
    *,
    source: list[int],
    target: list[int],
    max_length: int,
) -> Probe:
    """Note PyTorch's candidates along its greedy output ``target``."""
    logits = forced_logits(model, [source], [fed_part(target, max_length)])[0]
    return Probe(
        text=text,
        source_language=direction.source,
        target_language=direction.target,
        source_ids=source,
        target_ids=target,
        steps=probe_steps(logits),
    )


def measure_probes(graphs: SteppedGraphs, probes: Sequence[Probe], found: Sequence[Sequence[int]]) -> ProbeResult:
    """Largest difference of a recorded logit or log-sum-exp, and how many greedy outputs ``found`` are PyTorch's."""
    largest = 0.0
    for probe in probes:
        encoded = graphs.encode([probe.source_ids])
        fed = probe.target_ids[: len(probe.steps) - 1]
        for step, expected in zip(graphs.force(encoded, [fed], ["logits"]), probe.steps, strict=True):
            # NaN outranks every number.
            largest = float(np.max([largest, step_difference(step.outputs["logits"][0], expected)]))
    identical = sum(list(ids) == probe.target_ids for ids, probe in zip(found, probes, strict=True))
    return ProbeResult(max_logit_difference=largest, identical=identical)


def step_difference(logits: npt.NDArray[np.float32], expected: ProbeStep) -> float:
    """Largest difference of logits (vocabulary,) from those that were noted, and of their log-sum-exp."""
    exact = logits.astype(np.float64)
    highest = exact.max()
    log_sum_exp = highest + np.log(np.exp(exact - highest).sum())
    return float(np.abs([*(exact[expected.ids] - expected.logits), log_sum_exp - expected.log_sum_exp]).max())


def step_differences(
    left: Sequence[ProbeStep], left_ids: Sequence[int], right: Sequence[ProbeStep], right_ids: Sequence[int]
) -> float:
    """Largest difference of a logit at the steps before the outputs part."""
    largest = 0.0
    for step, (a, b) in enumerate(zip(left, right, strict=False)):
        if left_ids[:step] != right_ids[:step]:
            break
        known = dict(zip(b.ids, b.logits, strict=True))
        shared = [abs(logit - known[token]) for token, logit in zip(a.ids, a.logits, strict=True) if token in known]
        largest = max([largest, abs(a.log_sum_exp - b.log_sum_exp), *shared])
    return largest


def probe_steps(logits: npt.NDArray[np.float32]) -> list[ProbeStep]:
    """What is noted of PyTorch's logits (steps, vocabulary)."""
    return [
        ProbeStep(ids=c.ids, logits=[round(x, 5) for x in c.logits], log_sum_exp=round(c.log_sum_exp, 5))
        for c in best_candidates(logits, _CANDIDATES)
    ]


def output_hash(ids: Sequence[int]) -> str:
    """Sixteen hexadecimal digits that stand for an output."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]


def read_record(bundle: Path) -> ParityRecord:
    """Read a bundle's parity.json. ProbesError lists what is wrong with it."""
    path = bundle / PARITY_FILE
    try:
        return ParityRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ProbesError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or PARITY_FILE}: {fault['msg']}" for fault in error.errors()]
        raise ProbesError(f"{path}: {'; '.join(faults)}") from error
