"""Models that are trained for comparison alone are not exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_export.export_job import ExportError, ExportOptions
from dragoman_export.exporting import export_bundle
from dragoman_model.checkpoint import CheckpointError, load_model, save_model
from dragoman_model.config import RecurrentConfig
from dragoman_model.recurrent import RecurrentTranslator
from dragoman_server.progress import Stages
from tests.unit.export.tiny_model import save_checkpoint, write_pairs


def test_a_recurrent_model_is_refused_by_name_before_anything_is_written(tmp_path: Path) -> None:
    tiny = save_checkpoint(tmp_path / "tiny")
    torch.manual_seed(0)
    vocabulary = tiny.tokenizer.get_vocab_size()
    model = RecurrentTranslator(RecurrentConfig(architecture="gru-attention", vocabulary=vocabulary, d_model=8))
    save_model(tmp_path / "gru", dict(model.state_dict()), model.config, tiny.tokenizer, tiny.provenance)
    assert load_model(tmp_path / "gru", RecurrentTranslator).model.config == model.config
    data = [write_pairs(tmp_path / "pairs.tsv")]
    options = ExportOptions(tmp_path / "gru", tmp_path / "bundle", data, data, columns=("en", "de"))
    with pytest.raises((CheckpointError, ExportError), match="RecurrentTranslator"):
        export_bundle(options, Stages())
    assert not (tmp_path / "bundle").exists()
