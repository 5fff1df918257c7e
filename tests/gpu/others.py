"""Other software and ours by turns on the same models, as parts of the check: what is not installed may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dragoman_export.serving import ServedEngine
from dragoman_model.config import DecoderConfig
from dragoman_model.transformer import Transformer
from dragoman_server.device import Device
from tests.gpu.alternating import OURS, Answers, by_turns
from tests.gpu.measuring import SOURCE, STEPS, Findings, texts
from tests.gpu.speeds import answering, case_name, cases, served
from tests.gpu.subjects import LONGEST, Subject, torch_device

Texts = Sequence[Sequence[int]]
_COMPILED_ROWS = 8


def ctranslate2(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """CTranslate2 in float16 on the same weights and ours by turns, by rows and beams."""
    from ctranslate2 import Generator, Translator  # noqa: PLC0415  (may be missing)

    from tests.bench.ctranslate2_model import tokens  # noqa: PLC0415

    path, kind = str(ctranslate2_folder(subject, folder)), _element(device)
    lengths: dict[str, Any] = {"min_length": STEPS, "max_length": STEPS, "include_prompt_in_result": False}
    if subject.has_source:
        decode = Translator(path, device=device.kind, compute_type=kind).translate_batch
        lengths = {"min_decoding_length": STEPS, "max_decoding_length": STEPS}
    else:
        decode = Generator(path, device=device.kind, compute_type=kind).generate_batch

    def theirs(begins: Texts, beams: int) -> Answers:
        written = [tokens(ids) for ids in begins]

        def run() -> list[list[int]]:
            results = decode(written, beam_size=beams, **lengths)
            best = [result.hypotheses[0] if subject.has_source else result.sequences[0] for result in results]
            return [[int(token) for token in one] for one in best]

        return run

    with served(subject, folder, device) as ours:
        yield from _compared(subject, device, ours, {"ctranslate2": theirs})


def hugging_face(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """``generate`` of Hugging Face in float16, eager, and ours by turns, by rows and beams.

    On the same weights; of a decoder alone, GPT-2 of the same sizes with weights of its own.
    """
    model = _hugging_face(subject, device)
    with served(subject, folder, device) as ours:
        yield from _compared(subject, device, ours, {"hugging_face": _generating(model)}, subject.has_source)


def hugging_face_compiled(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """The same compiled with a static cache, which takes long for each number of rows: greedy, for one of them."""
    model = _hugging_face(subject, device)
    with served(subject, folder, device) as ours:
        begins = texts(subject, _COMPILED_ROWS, length=SOURCE)
        theirs = _generating(model, cache_implementation="static")(begins, 1)
        theirs()  # compiles
        sides: dict[str, Answers] = {OURS: answering(ours, begins, 1), "hugging_face_compiled": theirs}
        yield {case_name(_COMPILED_ROWS, 1): by_turns(sides, same_weights=subject.has_source)}


def ctranslate2_folder(subject: Subject, folder: Path) -> Path:
    """Where the model is for CTranslate2."""
    return folder / f"{subject.name}-ctranslate2"


def convert_for_ctranslate2(subject: Subject, folder: Path, device: Device) -> None:
    """Write it there. ImportError where CTranslate2 is not installed."""
    from tests.bench.ctranslate2_decoder import convert_decoder  # noqa: PLC0415  (ctranslate2 may be missing)
    from tests.bench.ctranslate2_model import convert  # noqa: PLC0415

    model, path = subject.model().cpu(), ctranslate2_folder(subject, folder)
    if isinstance(model, Transformer):
        convert(model, path, quantization=_element(device))
    else:
        convert_decoder(model, path, quantization=_element(device))


def _compared(
    subject: Subject,
    device: Device,
    ours: ServedEngine,
    others: dict[str, Callable[[Texts, int], Answers]],
    same_weights: bool = True,
) -> Iterator[Findings]:
    for rows, beams in cases(subject, device):
        begins = texts(subject, rows, length=SOURCE)
        sides = {OURS: answering(ours, begins, beams)} | {name: make(begins, beams) for name, make in others.items()}
        yield {case_name(rows, beams): by_turns(sides, same_weights=same_weights)}


def _generating(model: Any, **options: Any) -> Callable[[Texts, int], Answers]:
    def theirs(begins: Texts, beams: int) -> Answers:
        ids = torch.tensor(begins, device=model.device)

        def run() -> list[list[int]]:
            lengths = {"min_new_tokens": STEPS, "max_new_tokens": STEPS}
            with torch.inference_mode(not options):
                made = model.generate(ids, num_beams=beams, do_sample=False, **lengths, **options)
            found: list[list[int]] = made[:, -STEPS:].tolist()
            return found

        return run

    return theirs


def _hugging_face(subject: Subject, device: Device) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  (may be missing)

    from tests.bench.hugging_face_model import hugging_face_model  # noqa: PLC0415

    config, kind = subject.config, torch_device() if device.kind == "cuda" else "cpu"
    element = getattr(torch, _element(device))
    model = subject.model()
    if isinstance(model, Transformer):
        return hugging_face_model(model.cpu()).to(kind, element)
    assert isinstance(config, DecoderConfig)
    sizes = {"n_positions": LONGEST, "n_embd": config.d_model, "n_layer": config.decoder_layers}
    sizes |= {"vocab_size": config.vocabulary, "n_head": config.num_heads, "n_inner": config.d_ff}
    ends = {"bos_token_id": config.bos_id, "eos_token_id": config.eos_id, "pad_token_id": config.pad_id}
    with torch.device(kind):
        return GPT2LMHeadModel(GPT2Config(**sizes, **ends)).eval().to(element)


def _element(device: Device) -> str:
    return "float16" if device.kind == "cuda" else "float32"
