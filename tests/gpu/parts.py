"""The parts of the check on a GPU, each run in a process of its own: what one breaks, the others survive.

``python -m tests.gpu.parts NAME SUBJECT FOLDER DEVICE`` prints its findings as one line of JSON.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import torch

from dragoman_export.reference import forced_logits
from dragoman_model.transformer import Transformer
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.device import Device
from dragoman_server.device_choice import probe
from dragoman_server.gpus import gpus
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import lane_session
from tests.gpu.attention import attention
from tests.gpu.launches import gaps, nodes
from tests.gpu.measuring import ROUNDS, SOURCE, STEPS, Findings, begin, grow, ladder, median, texts
from tests.gpu.others import ctranslate2, hugging_face
from tests.gpu.subjects import SUBJECTS, Subject

if TYPE_CHECKING:
    from dragoman_server.engine import DecodingEngine

_ENCODED_TOGETHER = 8192
"""Source tokens."""


def machine(subject: Subject, folder: Path, device: Device) -> Findings:
    """Versions, the card, and whether onnxruntime computes on it."""
    probe(device)
    packages = ("onnxruntime-gpu", "onnxruntime", "torch", "transformers", "ctranslate2", "onnx", "numpy")
    found = {name: _version(name) for name in packages}
    found |= {"python": platform.python_version(), "cuda of torch": str(torch.version.cuda)}
    found["onnxruntime, imported"] = ort.__version__
    return {
        "versions": found,
        "gpus": [f"{gpu.name}, driver {gpu.driver}, {gpu.total >> 20} MiB" for gpu in gpus()],
        "providers": ort.get_available_providers(),
    }


def bandwidth(subject: Subject, folder: Path, device: Device) -> Findings:
    """Bytes read and written a second by a copy within the device's memory: the ceiling of a decoder's step."""
    size = 4 << 30 if device.kind == "cuda" else 64 << 20
    source = torch.ones(size // 2, dtype=torch.float16, device=device.kind)
    target = torch.empty_like(source)
    seconds = median(lambda: target.copy_(source), 10)
    return {"bytes_per_second": 2 * size / seconds}


def graphs(subject: Subject, folder: Path, device: Device) -> Findings:
    """Export, sessions on the device (an error where a node would run elsewhere), and the bytes of each graph."""
    began = time.perf_counter()
    paths = sorted(set(subject.graphs(folder)))
    exported = time.perf_counter() - began
    providers = [lane_session(path, device).get_providers()[0] for path in paths]
    return {"export_seconds": exported, "bytes": [path.stat().st_size for path in paths], "providers": providers}


def parity(subject: Subject, folder: Path, device: Device) -> Findings:
    """Greedy decodes against PyTorch in float32 along the same tokens; of a model with a source."""
    model, runtime = subject.model(), subject.runtime(folder, device, 16)
    assert isinstance(model, Transformer)
    assert isinstance(runtime, OnnxRuntime)
    sources = texts(subject, 16)
    runtime.encode(range(16), sources)
    tokens, logits = [subject.config.bos_id] * 16, []
    fed: list[list[int]] = [[] for _ in sources]
    for _ in range(20):
        output = runtime.step(tokens, with_logits=True)
        assert output.logits is not None
        logits.append(output.logits.copy())
        tokens = output.top_ids[:, 0].tolist()
        for row, token in zip(fed, tokens, strict=True):
            row.append(token)
    expected = forced_logits(model, sources, [row[:-1] for row in fed])  # (rows, steps, vocabulary)
    found = np.stack(logits, axis=1)
    return {
        "largest_logit_difference": float(np.abs(found - expected).max()),
        "largest_logit": float(np.abs(expected).max()),
        "same_choices": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }


def independence(subject: Subject, folder: Path, device: Device) -> Findings:
    """The same texts alone and in company of 1 to 63 others: share with the same tokens, and with the same bits."""
    runtime = subject.runtime(folder, device, 64)
    begins = texts(subject, 24)
    alone = [_decoded(runtime, subject, [begin])[0] for begin in begins]
    shares: Findings = {}
    for company in (1, 7, 31, 63):
        others = texts(subject, company, seed=5)
        together = [_decoded(runtime, subject, [begin, *others])[0] for begin in begins]
        same = [
            (one[0] == other[0], np.array_equal(one[1], other[1])) for one, other in zip(alone, together, strict=True)
        ]
        shares[str(company)] = {
            "same_tokens": sum(tokens for tokens, _ in same) / len(same),
            "same_bits": sum(bits for _, bits in same) / len(same),
        }
    return shares


def steps(subject: Subject, folder: Path, device: Device) -> Findings:
    """Seconds of a greedy step, the way to the host and back included, by rows; medians of rounds."""
    paths = subject.graphs(folder)
    found: Findings = {}
    for rows in ladder(device):
        runtime = subject.runtime(folder, device, rows)
        begin(runtime, subject, rows)
        grow(runtime, rows, STEPS)
        rounds = []
        for _ in range(ROUNDS):
            begin(runtime, subject, rows)
            began = time.perf_counter()
            grow(runtime, rows, STEPS)
            rounds.append((time.perf_counter() - began) / STEPS)
        seconds = statistics.median(rounds)
        least = subject.bytes_of_a_step(paths.decoder, rows, STEPS // 2, SOURCE)
        found[str(rows)] = {"seconds": seconds, "tokens_per_second": rows / seconds, "least_bytes": least}
        del runtime
    return found


def engine(subject: Subject, folder: Path, device: Device) -> Findings:
    """Tokens a second of the serving engine, by requests that are there at once and beams."""
    from dragoman_export.serving import UNBOUNDED, ServedEngine  # noqa: PLC0415  (structlog may be missing)
    from dragoman_server.engine import Engine  # noqa: PLC0415
    from dragoman_server.prompt_engine import PromptEngine  # noqa: PLC0415

    found: Findings = {}
    bos, eos = subject.config.bos_id, subject.config.eos_id
    for requests in ladder(device):
        for beams in (1, 4):
            runtime = subject.runtime(folder, device, requests * beams)
            made: DecodingEngine = (
                Engine(
                    [runtime],
                    bos=bos,
                    eos=eos,
                    max_waiting=UNBOUNDED,
                    max_waiting_tokens=UNBOUNDED,
                    encode_tokens=_ENCODED_TOGETHER,
                )
                if isinstance(runtime, OnnxRuntime)
                else PromptEngine([runtime], eos=eos, max_waiting=UNBOUNDED, max_waiting_tokens=UNBOUNDED)
            )
            options = DecodingOptions(max_length=STEPS, beam_size=beams)
            asked = [(source, options) for source in texts(subject, requests, length=SOURCE)]
            with ServedEngine(made, runtime.provider) as served:
                seconds = median(lambda served=served, asked=asked: served.answers(asked), ROUNDS)  # type: ignore[misc]
                tokens = sum(len(answer.token_ids) for answer in served.answers(asked))
            found[f"{requests} requests, beam {beams}"] = {"tokens_per_second": tokens / seconds}
            del runtime, made, served
    return found


PARTS: dict[str, Callable[[Subject, Path, Device], Findings]] = {
    part.__name__: part
    for part in (
        machine,
        bandwidth,
        graphs,
        parity,
        independence,
        steps,
        engine,
        nodes,
        gaps,
        attention,
        hugging_face,
        ctranslate2,
    )
}


def _decoded(
    runtime: OnnxRuntime | OnnxPromptRuntime, subject: Subject, begins: Sequence[Sequence[int]]
) -> list[tuple[list[int], Any]]:
    """Sixteen greedy tokens of each text and their log-probabilities (steps, top_k)."""
    if isinstance(runtime, OnnxRuntime):
        runtime.encode(range(len(begins)), begins)
    else:
        for row, begin in enumerate(begins):
            runtime.prefill(begin, 0)
            runtime.admit(row, len(begin))
    tokens: Any = [subject.config.bos_id] * len(begins)
    ids, log_probs = [], []
    for _ in range(16):
        output = runtime.step(tokens)
        tokens = output.top_ids[:, 0].copy()
        ids.append(tokens)
        log_probs.append(output.top_log_probs.copy())
    return [(np.stack(ids)[:, row].tolist(), np.stack(log_probs)[:, row]) for row in range(len(begins))]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def main(part: str, subject: str, folder: str, kind: str) -> None:
    """Run one part and print what it found."""
    captured = kind.endswith("+graphs")
    name = kind.removesuffix("+graphs")
    assert name in {"cpu", "cuda"}
    device = Device("cuda" if name == "cuda" else "cpu", resident=True, cuda_graphs=captured)
    with torch.no_grad():
        found = PARTS[part](SUBJECTS[subject], Path(folder), device)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
