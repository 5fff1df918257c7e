"""What the check on a GPU has found is held to what was aimed at, and said in words."""

from __future__ import annotations

from tests.gpu.part import Part
from tests.gpu.targets import targets


def test_each_target_is_met_or_missed() -> None:
    theirs = {
        "1 rows, beam 1": {"ours": {"tokens_per_second": 900.0}, "ctranslate2": {"ratio": 3.0}},
        "8 rows, beam 1": {"ctranslate2": {"ratio": 1.5}},
        "512 rows, beam 4": {"ctranslate2": {"error": "out of memory"}},
    }
    step = {"1": {"seconds": 1e-3, "tokens_per_second": 1000.0, "least_bytes": 2_000_000_000}}
    gaps = {"1 rows": {"idle": 0.05}, "8 rows": {"idle": 0.2}, "32 rows": {"idle": None}, "1 rows, step": {}}
    done = [
        Part("machine", "base", "cuda", 1, found={"bytes_per_second": 4e12}),
        Part("steps", "base", "cuda", 1, found=step),
        Part("steps", "decoder-1b", "cuda", 1, found=step),
        Part("gaps", "base", "cuda+graphs", 1, found=gaps),
        Part("ctranslate2", "base", "cuda", 1, found=theirs),
    ]
    assert targets(done) == [
        "met     base, 1 rows, beam 1: 3.00 x ctranslate2, at least 2",
        "MISSED  base, 8 rows, beam 1: 1.50 x ctranslate2, at least 2",
        "MISSED  decoder-1b on cuda, 1 row: 50.0% of the bandwidth, at least 60%",
        "met     base, 1 rows: idle 5.0% of the time, at most 10%",
        "MISSED  base, 8 rows: idle 20.0% of the time, at most 10%",
    ]
    wrong = Part("parity", "decoder-1b", "cuda", 1, error="a logit")
    assert targets([*done, wrong])[2] == f"{targets(done)[2]}; its results are wrong"
    assert targets([Part("engine", "base", "cuda", 1, error="no GPU")]) == []
