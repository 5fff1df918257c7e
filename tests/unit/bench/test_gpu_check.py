"""The check on a GPU keeps its promise to go on: what fails is told, what was found is written down."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.gpu.check import main, parts, table
from tests.gpu.launches import idle_share
from tests.gpu.part import Launch, Part

ROOT = Path(__file__).parents[3]


def test_parts_run_in_processes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--device", "cpu", "--subjects", "tiny", "--only", "machine", "--output", str(tmp_path)])
    (part,) = json.loads((tmp_path / "gpu.json").read_text())
    assert status == 0, part["error"]
    assert part["found"]["versions"]["onnxruntime"]
    assert "1 parts, 0 checks failed" in capsys.readouterr().out


def answering(answers: dict[str, tuple[int, str, str]]) -> Launch:
    """Exit status, stdout and stderr of each part by its name; what is not there takes too long."""

    def launch(command: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
        name = command[3]
        if name not in answers:
            raise subprocess.TimeoutExpired(command, limit)
        return subprocess.CompletedProcess(command, *answers[name])

    return launch


def test_parts_that_fail_are_told_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {
        "machine": (1, "", "Traceback\nImportError: libcudnn.so.9"),
        "graphs": (0, 'a warning\n{"bytes": [7]}\n', ""),
        "parity": (0, "", ""),
        "steps": (0, "no JSON\n", ""),
    }
    only = ",".join([*answers, "bandwidth", "ctranslate2"])
    arguments = ["--subjects", "base", "--seconds", "99", "--only", only, "--output", str(tmp_path)]
    assert main(arguments, answering(answers)) == 1
    found = [(part["name"], part["error"], part["found"]) for part in json.loads((tmp_path / "gpu.json").read_text())]
    assert found == [
        ("machine", "ImportError: libcudnn.so.9", {}),
        ("bandwidth", "not done after 30 s", {}),
        ("graphs", "", {"bytes": [7]}),
        ("parity", "printed no JSON: ''", {}),
        ("steps", "printed no JSON: 'no JSON\\n'", {}),
        ("steps", "printed no JSON: 'no JSON\\n'", {}),
        ("ctranslate2", "not done after 60 s", {}),
    ]
    assert "7 parts, 5 checks failed" in capsys.readouterr().out


def test_time_that_is_up_is_told(tmp_path: Path) -> None:
    part = Part("machine", "tiny", "cpu", 60)
    part.run(tmp_path, 0.5)
    assert part.error == "not run: the time is up"


def test_other_software_does_not_count() -> None:
    listed = list(parts("cuda", ["base", "decoder-1b"]))
    assert {part.name for part in listed if not part.counts} == {"attention", "hugging_face", "ctranslate2"}
    assert [part.subject for part in listed if part.name == "attention"] == ["decoder-1b"]
    assert [part.subject for part in listed if part.name in ("hugging_face", "ctranslate2")] == [
        *["base"] * 2,
        *["decoder-1b"] * 2,
    ]
    assert [part.subject for part in listed if part.name == "parity"] == ["base"]
    assert [part.device for part in listed if part.name == "steps"] == ["cuda", "cuda+graphs"] * 2


def test_the_table_shows_shares_of_the_ceiling() -> None:
    ceiling = Part("bandwidth", "base", "cuda", 1, found={"bytes_per_second": 4e12})
    step = {"seconds": 1e-3, "tokens_per_second": 8000.0, "least_bytes": 2_000_000_000}
    steps = Part("steps", "base", "cuda", 1, found={"8": step})
    assert "8 rows:    1.000 ms,       8000 tokens/s,  50.0% of the ceiling" in table([ceiling, steps])
    assert "FAILED: no" in table([Part("nodes", "base", "cuda", 1, error="no")])


def test_a_way_to_attend_that_fails_is_told_and_the_others_are_timed(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--subjects", "tiny-decoder", "--only", "attention", "--output", str(tmp_path)]
    assert main(arguments) == 0
    (part,) = json.loads((tmp_path / "gpu.json").read_text())
    assert part["error"] == ""
    rows, *pages = part["found"].values()
    assert rows["8"]["tokens_per_second"] > 0
    assert rows["8"]["largest_difference"] == 0
    assert len(pages) == 3
    assert all("PagedAttention" in way["error"] for way in pages)  # a processor has no kernel of it


def test_idle_is_what_no_kernel_covers() -> None:
    assert idle_share([]) is None
    assert idle_share([(10, 20), (15, 30)]) == 0
    assert idle_share([(30, 40), (0, 10), (0, 5)]) == pytest.approx(0.5)


def test_a_server_on_a_gpu_needs_what_a_server_needs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    runtime, *others = extras["server-gpu"]
    assert runtime.startswith("onnxruntime-gpu[cuda,cudnn]>=")
    assert others == extras["server"][1:]
    assert runtime.partition(">=")[2] == extras["server"][0].partition(">=")[2]
