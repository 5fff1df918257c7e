"""A folder in which the commands of a page can be run as they stand: small data of our own under the real names.

Recipes are those of the repository with smaller models and shorter runs; ``dragoman serve`` and ``make serve`` start a
server in the background on a free port, where every later command finds it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import trustme

from dragoman_server.independence.sentences import own_sentences

ROOT = Path(__file__).parents[2]
SHIMS = Path(__file__).with_name("shims.py")
_SMALLER = {
    "vocabulary": 300,
    "d_model": 32,
    "num_heads": 4,
    "d_ff": 64,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "layers": 1,
    "max_updates": 6,
    "warmup": 2,
    "cooldown": 2,
    "validate_every": 3,
    "save_every": 3,
    "batch_tokens": 400,
}
_LABELS = ("alarm", "transfer", "translate", "weather")  # some of those that the model "intents" knows
_PATIENCE = 280
_SENTENCES = 240
_TEST_SENTENCES = 60


class Workplace:
    """``folder``/project is where a reader would stand; data are in ``folder``/shared, as the recipes say."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self._data = folder / "shared" / "data"
        self._shims = folder / "bin"
        self.project.mkdir()
        self._models()
        self._recipes()
        self._texts()
        self._certificate()
        self._programs()

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a page's commands, one after the other, until one fails."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("DRAGOMAN_", "COLUMNS"))}
        environment = {
            **inherited,
            "PATH": f"{self._shims}{os.pathsep}{inherited['PATH']}",
            "DOCS_ROOT": str(ROOT),
            "DOCS_STATE": str(self._shims),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )

    def end(self) -> None:
        """Stop the server, if there is one."""
        for path in self._shims.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def _models(self) -> None:
        shutil.copytree(ROOT / "models", self.project / "models")
        shutil.copytree(ROOT / "models" / "deu-eng" / "1", self.project / "new")
        shutil.copytree(ROOT / "deploy", self.project / "deploy", ignore=shutil.ignore_patterns("secrets"))
        (self.project / "model").mkdir()
        (self.project / "model" / "checkpoints").symlink_to(ROOT / "model" / "checkpoints")
        for name in ("figures", "bench"):  # figures are drawn into the folder that their module is in
            shutil.copytree(ROOT / "tests" / name, self.project / "tests" / name)

    def _recipes(self) -> None:
        recipes = self.project / "model" / "recipes"
        recipes.mkdir()
        for path in (ROOT / "model" / "recipes").glob("*.toml"):
            text = path.read_text(encoding="utf-8")
            for name, value in _SMALLER.items():
                text = re.sub(rf"^{name} = \d+$", f"{name} = {value}", text, flags=re.MULTILINE)
            if path.name.startswith("history"):  # four sentences joined, with a vocabulary that cuts words small
                text = text.replace("max_length = 256", "max_length = 512")
            (recipes / path.name).write_text(text, encoding="utf-8")
        (self.project / "recipe.toml").write_text(
            (recipes / "shakespeare.toml")
            .read_text(encoding="utf-8")
            .replace("../../../shared", "../shared")
            .replace('name = "shakespeare"', 'name = "mine"')
        )

    def _texts(self) -> None:
        english, german = (_short_sentences(language) for language in ("en", "de"))
        pairs = [f"{en}\t{de}" for en, de in zip(english, german, strict=True)]
        tatoeba = self._data / "tatoeba-deu-eng"
        longer = [f"{en}\t{de}" for en, de in zip(*map(_all_lengths, ("en", "de")), strict=True)]
        for name, part in (("train", pairs[:200]), ("valid", pairs[200:]), ("test", longer)):
            _write(tatoeba / f"{name}.tsv.gz", part)
        plain = [line for sentence in english * 40 for line in (sentence, "")]
        _write(self._data / "tatoeba-fra-eng" / "train.tsv.gz", pairs[:100])
        _write(self._data / "tinyshakespeare" / "input.txt.gz", plain)
        _write(self._data / "gutenberg" / "whitman-leaves.txt.gz", plain)
        self._labelled(english)
        beside = ("tatoeba-deu-eng/test.tsv.gz", "tatoeba-deu-eng/train.tsv.gz", "tinyshakespeare/input.txt.gz")
        more = (
            "clinc150/data_full.json.gz",
            "ud-ewt/test.upos.tsv.gz",
            "mr/rt-polarity.neg.gz",
            "mr/rt-polarity.pos.gz",
        )
        for name in (*beside, *more):
            shutil.copy(self._data / name, self.project)
        _write(self.project / "in.txt", english[:2])
        _write(self.project / "sentences.txt", english[:4])
        _write(self.project / "page.txt", [" ".join(english[:3])])
        _write(self.project / "texts.txt", english[:20])
        _write(self.project / "pairs.tsv", pairs[:2])
        _write(self.project / "text.txt", plain)

    def _labelled(self, sentences: list[str]) -> None:
        labelled = [[sentence, _LABELS[number % len(_LABELS)]] for number, sentence in enumerate(sentences)]
        splits = {"train": labelled[:120], "val": labelled[120:160], "test": labelled[160:200]}
        strange = {f"oos_{name}": [[f"{text} zzz", "oos"] for text, _ in part[:12]] for name, part in splits.items()}
        path = self._data / "clinc150" / "data_full.json.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(json.dumps({**splits, **strange}).encode()))
        tagged = [
            line
            for sentence in sentences[:60]
            for line in (*(f"{word}\t{'PUNCT' if not word.isalnum() else 'NOUN'}" for word in sentence.split()), "")
        ]
        for name in ("train", "dev", "test"):
            _write(self._data / "ud-ewt" / f"{name}.upos.tsv.gz", tagged)
        for number, mood in enumerate(("neg", "pos")):
            _write(self._data / "mr" / f"rt-polarity.{mood}.gz", sentences[number::2])

    def _certificate(self) -> None:
        """For localhost, since that is where every server of these pages is; shims say whom to trust."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.project / "authority.pem")
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(self.project / "server.key")
        for part in certificate.cert_chain_pems:
            part.write_to_path(self.project / "server.pem", append=True)

    def _programs(self) -> None:
        """Every program of the pages is ours to run: see ``shims``."""
        self._shims.mkdir()
        shim = f'#!/bin/sh\nexec "{sys.executable}" "{SHIMS}" "$(basename "$0")" "$@"\n'
        (self.project / ".venv" / "bin").mkdir(parents=True)
        names = ("dragoman", "make", "python", "pip", "curl", "docker", "helm", "locust")
        for path in [*(self._shims / name for name in names), self.project / ".venv" / "bin" / "dragoman"]:
            path.write_text(shim)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _short_sentences(language: str) -> list[str]:
    """Which a small model with a small vocabulary can hold."""
    found = own_sentences(_SENTENCES * 6, seed=3, languages=[language])
    return sorted((one.text for one in found), key=len)[:_SENTENCES]


def _all_lengths(language: str) -> list[str]:
    """Of up to 20 words."""
    found = [one.text for one in own_sentences(1000, seed=5, languages=[language])]
    chosen = sorted((text for text in found if len(text.split()) <= 20), key=lambda text: len(text.split()))
    return chosen[:: len(chosen) // _TEST_SENTENCES][:_TEST_SENTENCES]


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
