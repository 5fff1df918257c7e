"""Other software on the same models, as parts of the check on a GPU: what is not installed may be missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dragoman_model.config import DecoderConfig
from dragoman_model.language_model import LanguageModel
from dragoman_model.transformer import Transformer
from dragoman_server.device import Device
from tests.gpu.measuring import ROUNDS, SOURCE, STEPS, Findings, ladder, median, texts
from tests.gpu.subjects import LONGEST, Subject

_BEAMS = (1, 4)


def hugging_face(subject: Subject, folder: Path, device: Device) -> Findings:
    """``generate`` of Hugging Face in float16, eager, and compiled with a static cache: tokens a second.

    On the same weights; of a decoder alone, GPT-2 of the same sizes with weights of its own.
    """
    theirs = _hugging_face(subject).to(device.kind, torch.float16 if device.kind == "cuda" else torch.float32)
    found: Findings = {}
    for rows in ladder(device):
        ids = torch.tensor(texts(subject, rows, length=SOURCE), device=device.kind)

        def run(ids: torch.Tensor = ids, **options: Any) -> None:
            theirs.generate(ids, min_new_tokens=STEPS, max_new_tokens=STEPS, do_sample=False, **options)

        ways: dict[str, dict[str, Any]] = {f"beam {beams}": {"num_beams": beams} for beams in _BEAMS}
        if device.kind == "cuda":
            ways["static cache, compiled"] = {"cache_implementation": "static"}
        for name, way in ways.items():
            found[f"{rows} rows, {name}"] = _speed(rows, partial(run, **way))
    return found


def ctranslate2(subject: Subject, folder: Path, device: Device) -> Findings:
    """CTranslate2 in float16 on the same weights: tokens a second by rows and beams."""
    from ctranslate2 import Generator, Translator  # noqa: PLC0415  (may be missing)

    from tests.bench.ctranslate2_decoder import convert_decoder  # noqa: PLC0415
    from tests.bench.ctranslate2_model import convert, tokens  # noqa: PLC0415

    model, path = subject.model(), folder / f"{subject.name}-ctranslate2"
    kind = "float16" if device.kind == "cuda" else "float32"
    if isinstance(model, Transformer):
        convert(model, path, quantization=kind)
        translate = Translator(str(path), device=device.kind, compute_type=kind).translate_batch
        lengths = {"min_decoding_length": STEPS, "max_decoding_length": STEPS}
    else:
        convert_decoder(model, path, quantization=kind)
        translate = Generator(str(path), device=device.kind, compute_type=kind).generate_batch
        lengths = {"min_length": STEPS, "max_length": STEPS, "include_prompt_in_result": False}
    found: Findings = {}
    for rows in ladder(device):
        written = [tokens(ids) for ids in texts(subject, rows, length=SOURCE)]
        for beams in _BEAMS:

            def run(beams: int = beams, written: Sequence[Sequence[str]] = written) -> None:
                translate(written, beam_size=beams, **lengths)

            found[f"{rows} rows, beam {beams}"] = _speed(rows, run)
    return found


def _hugging_face(subject: Subject) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  (may be missing)

    from tests.bench.hugging_face import hugging_face_model  # noqa: PLC0415

    config = subject.config
    if not isinstance(config, DecoderConfig):
        model = subject.model()
        assert not isinstance(model, LanguageModel)
        return hugging_face_model(model)
    sizes = {"n_positions": LONGEST, "n_embd": config.d_model, "n_layer": config.decoder_layers}
    sizes |= {"vocab_size": config.vocabulary, "n_head": config.num_heads, "n_inner": config.d_ff}
    ends = {"bos_token_id": config.bos_id, "eos_token_id": config.eos_id, "pad_token_id": config.pad_id}
    return GPT2LMHeadModel(GPT2Config(**sizes, **ends)).eval()


def _speed(rows: int, run: Callable[[], object]) -> Findings:
    """Or why there is none: with the largest numbers of rows, the memory may not do."""
    try:
        return {"tokens_per_second": rows * STEPS / median(run, ROUNDS)}
    except RuntimeError as error:
        return {"error": str(error).splitlines()[0]}
