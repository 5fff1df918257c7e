from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_export.language_measuring import NATS, choose_prompts, language_misses, nats_metric, scored_windows
from dragoman_export.language_texts import TextShares, read_calibration, read_measured, text_shares
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.data import DataError
from dragoman_model.language_model import LanguageModel
from dragoman_protos.v1.bundle_pb2 import Measurement
from tests.unit.export import tiny_language_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel[LanguageModel]:
    return tiny_language_model.save_checkpoint(tmp_path_factory.mktemp("trained") / "checkpoint")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return tiny_language_model.write_text(tmp_path / "text.txt")


def test_shares_are_the_recipes(trained: TrainedModel[LanguageModel]) -> None:
    provenance = trained.provenance
    assert text_shares(provenance) == TextShares(trained=0.5, measured_from=0.6)
    plain = 'name = "x"\n[data]\nfiles = ["a"]\n'
    for recipe, expected in (
        ("", TextShares()),
        ("not = [toml", TextShares()),
        (plain, TextShares(trained=0.9, measured_from=0.9)),  # nothing is left for tests: what was validated on
        (plain + "train_share = 0.87\nvalid_share = 0.03\n", TextShares(trained=0.87, measured_from=0.9)),
        (plain + 'documents = "paragraphs"\n', TextShares(trained=0.9, measured_from=0.9, documents="paragraphs")),
    ):
        assert text_shares(type(provenance)(**{**vars(provenance), "recipe": recipe})) == expected


def test_measured_and_calibrated_parts_do_not_meet(trained: TrainedModel[LanguageModel], text: Path) -> None:
    whole, shares = text.read_text(encoding="utf-8"), text_shares(trained.provenance)
    measured = read_measured([text], shares, trained.tokenizer)
    calibration = read_calibration([text], shares, trained.tokenizer)
    assert measured.name.endswith("/text.txt, 60% to 100%")
    assert trained.tokenizer.decode(measured.documents[0]) == whole[int(0.6 * len(whole)) :]
    assert trained.tokenizer.decode(calibration.documents[0]) == whole[: int(0.5 * len(whole))]
    assert measured.characters == len(whole) - int(0.6 * len(whole))
    assert measured.lines == len(whole[int(0.6 * len(whole)) :].splitlines())


def test_paragraphs_are_documents_that_end(trained: TrainedModel[LanguageModel], text: Path) -> None:
    found = read_measured([text], TextShares(documents="paragraphs"), trained.tokenizer)
    assert len(found.documents) == 2 * len(tiny_language_model.PARAGRAPHS)
    assert {ids[-1] for ids in found.documents} == {trained.model.config.eos_id}


def test_texts_that_will_not_do(trained: TrainedModel[LanguageModel], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a", encoding="utf-8")
    with pytest.raises(DataError, match=r"short\.txt: no text from 60% to 100%"):
        read_measured([tmp_path / "short.txt"], text_shares(trained.provenance), trained.tokenizer)
    with pytest.raises(DataError, match="none"):
        read_measured([tmp_path / "none.txt"], TextShares(), trained.tokenizer)
    with pytest.raises(DataError, match="no file"):
        read_measured([], TextShares(), trained.tokenizer)


documents = st.lists(st.lists(st.integers(4, 99), max_size=120), min_size=1, max_size=5)


@given(documents, st.integers(4, 40), st.integers(1, 30))
def test_prompts_fit_the_window_and_stand_in_the_text(found: list[list[int]], window: int, count: int) -> None:
    prompts = choose_prompts(found, window, 2, count)
    assert len(prompts) <= count
    assert bool(prompts) == any(len(ids) > 1 for ids in found)
    text = [" ".join(map(str, ids)) for ids in found]
    for prompt in prompts:
        assert prompt[0] == 2
        assert 2 <= len(prompt) <= max(2, window // 2)
        assert any(" ".join(map(str, prompt[1:])) in ids for ids in text)


@given(documents, st.integers(4, 40))
def test_windows_score_every_id_once_in_order(found: list[list[int]], window: int) -> None:
    windows = scored_windows(found, window)
    scored = [token for part in windows for token in part.ids[len(part.ids) - part.scored :].tolist()]
    assert scored == [token for ids in found for token in ids]
    assert all(len(part.ids) <= window for part in windows)


def measurement(precision: str, loss: float) -> Measurement:
    return Measurement(
        precision=precision, identical_greedy=1.0, parity_sentences=9, metrics=[nats_metric(1.5, 1.5 + loss)]
    )


def test_only_nats_that_are_lost_miss() -> None:
    assert list(language_misses([measurement("fp32", 0.0), measurement("int8", 0.009), measurement("int8", -1)])) == []
    (miss,) = language_misses([measurement("fp32", 0.0), measurement("int8", 0.02)])
    assert miss == f"int8: {NATS} 1.5200, PyTorch's is 1.5000, must be at most 0.01 above"
    assert list(language_misses([measurement("int8", math.nan)]))


def test_limits_of_all_families_hold_too() -> None:
    bad = measurement("fp32", 0.0)
    bad.max_logit_difference, bad.identical_greedy = np.inf, 0.5
    assert len(list(language_misses([bad]))) == 2
