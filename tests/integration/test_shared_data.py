"""What can only be shown on the real data, where that lies beside the repository in ../shared/data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman_model.data import read_pairs
from dragoman_model.tasks import load_recipe
from dragoman_model.translation_recipe import TranslationRecipe

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "deu-eng" / "1"
DATA = ROOT.parent / "shared" / "data" / "tatoeba-deu-eng"
TEST = DATA / "test.tsv.gz"
DRAGOMAN = [sys.executable, "-c", "from dragoman.cli.main import main; main()"]

pytestmark = pytest.mark.skipif(not TEST.is_file(), reason="the Tatoeba data is not beside the repository")


def run(*arguments: str) -> str:
    done = subprocess.run([*DRAGOMAN, *arguments], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_recipe_finds_its_data() -> None:
    recipe = load_recipe(ROOT / "model" / "recipes" / "tatoeba-deu-eng.toml")
    assert isinstance(recipe, TranslationRecipe)
    pairs, report = read_pairs(*(recipe.data.root / path for path in recipe.data.train))
    assert (len(pairs), report.bad) == (161_512, 0)


def test_the_served_bundle_scores_as_its_certificate_says() -> None:
    manifest = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    (int8,) = (m for m in manifest["certificate"]["measurements"] if m["precision"] == "int8")
    certified = {q["direction"]: q for q in int8["quality"] if q["decoding"] == "greedy"}
    for line in run("evaluate", str(BUNDLE), "--data", str(TEST), "--json").splitlines():
        found = json.loads(line)
        quality = certified.pop(found["direction"])
        assert found["bleu"] == pytest.approx(quality["bleu"], abs=0.1)
        assert found["bleu"] >= quality["bleuPytorch"] - 0.3 - 0.1
    assert not certified


def test_the_certificate_is_reproduced() -> None:
    assert "BLEU" in run("verify", str(BUNDLE), "--data", str(TEST))
