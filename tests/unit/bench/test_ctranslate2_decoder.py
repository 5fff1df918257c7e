"""A decoder alone says the same in CTranslate2 as in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_model.language_model import LanguageModel
from tests.gpu.subjects import SUBJECTS


def test_greedy_tokens_are_the_same(tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    from tests.bench.ctranslate2_decoder import convert_decoder  # noqa: PLC0415  (ctranslate2 may be missing)

    model = SUBJECTS["tiny-decoder"].model()
    assert isinstance(model, LanguageModel)
    convert_decoder(model, tmp_path / "converted")
    generator = ctranslate2.Generator(str(tmp_path / "converted"), device="cpu", compute_type="float32")
    ids = prompt = [2, 17, 44, 99]
    with torch.no_grad():
        for _ in range(20):
            ids = [*ids, int(model(torch.tensor([ids]))[0, -1].argmax())]
    written = [[str(token_id) for token_id in prompt]]
    (found,) = generator.generate_batch(written, max_length=20, min_length=20, include_prompt_in_result=False)
    assert [int(token) for token in found.sequences[0]] == ids[len(prompt) :]
