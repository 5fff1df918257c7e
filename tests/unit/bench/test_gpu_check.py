"""The check on a GPU keeps its promise to go on: what fails is told, what was found is written down."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gpu.check import main
from tests.gpu.launching import Findings, Job, Launch, Workers
from tests.gpu.part import Part, graphs_fail
from tests.gpu.plan import NO_FLASH, parts
from tests.gpu.table import table

ROOT = Path(__file__).parents[3]


def test_parts_run_in_processes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--device", "cpu", "--subjects", "tiny", "--parts", "machine", "--output", str(tmp_path)])
    (part,) = json.loads((tmp_path / "gpu.json").read_text())
    assert status == 0, part["error"]
    assert part["found"]["versions"]["onnxruntime"]
    assert part["found"]["bytes_per_second"] > 0
    assert "1 parts, 0 checks failed" in capsys.readouterr().out


def test_what_a_process_found_before_it_was_cut_is_kept(tmp_path: Path) -> None:
    found: list[Findings] = []
    job = {"name": "machine", "subject": "tiny", "folder": str(tmp_path), "device": "cpu", "environment": ""}
    with Workers() as workers:
        assert workers(job, 0.2, found.append) == "cut after 0 s"
        assert found == []
        assert "KeyError" in workers(job | {"subject": "none"}, 120, found.append)
        assert workers(job, 120, found.append) == ""
    assert any("versions" in figure for figure in found)


def answering(answers: dict[str, tuple[list[Findings], str]]) -> tuple[Launch, list[Job]]:
    """What each part finds and how it ends, by its name; and the jobs as they come."""
    jobs: list[Job] = []

    def launch(job: Job, limit: float, tell: Callable[[Findings], None]) -> str:
        jobs.append(job)
        found, error = answers.get(job["name"], ([], f"cut after {limit:.0f} s"))
        for figure in found:
            tell(figure)
        return error

    return launch, jobs


def test_parts_that_fail_are_told_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch, jobs = answering(
        {
            "machine": ([{"versions": {}}], ""),
            "export": ([{"bytes": [7]}], ""),
            "parity": ([{"alike": 0.1}], "WrongResultError: a logit"),
            "steps": ([{"1": {"seconds": 1e-3, "tokens_per_second": 1e3, "least_bytes": 7}}], ""),
        }
    )
    only = "machine,parity,steps,ctranslate2"
    arguments = ["--subjects", "base", "--seconds", "99", "--parts", only, "--output", str(tmp_path)]
    assert main(arguments, launch) == 1
    found = [
        (part["name"], part["device"], part["error"], sorted(part["found"]))
        for part in json.loads((tmp_path / "gpu.json").read_text())
        if part["name"] != "export"
    ]
    assert found == [
        ("machine", "cuda", "", ["versions"]),
        ("parity", "cuda", "WrongResultError: a logit", ["alike"]),
        ("parity", "cuda+graphs", "WrongResultError: a logit", ["alike"]),
        # Where steps as CUDA graphs are wrong, they are timed as they are.
        ("steps", "cuda", "", ["1"]),
        ("ctranslate2", "cuda", "cut after 75 s", []),
    ]
    assert [job["name"] for job in jobs].count("steps") == 1
    assert "6 parts, 2 checks failed" in capsys.readouterr().out


def test_nothing_is_tried_on_a_machine_that_does_not_compute(tmp_path: Path) -> None:
    launch, jobs = answering({"export": ([], ""), "machine": ([], "CUDAExecutionProvider is missing")})
    assert main(["--subjects", "base", "--output", str(tmp_path)], launch) == 1
    assert {job["name"] for job in jobs} == {"export", "machine"}


def test_parts_of_a_model_that_could_not_be_exported_are_not_run(tmp_path: Path) -> None:
    launch, jobs = answering({"machine": ([], ""), "export": ([], "no space left on device")})
    assert main(["--subjects", "base", "--parts", "steps", "--output", str(tmp_path)], launch) == 1
    done = json.loads((tmp_path / "gpu.json").read_text())
    assert {part["error"] for part in done} == {"no space left on device", "not run: export: no space left on device"}
    assert {job["name"] for job in jobs} == {"export"}


def test_exports_alone_are_waited_for(tmp_path: Path) -> None:
    launch, jobs = answering({"export": ([{"bytes": [7]}], "")})
    assert main(["--subjects", "base,big", "--parts", "export", "--output", str(tmp_path)], launch) == 0
    assert [job["name"] for job in jobs] == ["export"] * 2
    assert [part["found"] for part in json.loads((tmp_path / "gpu.json").read_text())] == [{"bytes": [7]}] * 2


def test_a_second_check_runs_what_the_first_has_not_done(tmp_path: Path) -> None:
    step = {"1": {"seconds": 1e-3, "tokens_per_second": 1e3, "least_bytes": 7}}
    launch, _ = answering({"export": ([], ""), "steps": ([step], ""), "ctranslate2": ([{"1 rows, beam 1": {}}], "cut")})
    arguments = ["--subjects", "base", "--parts", "steps,ctranslate2,engine", "--output", str(tmp_path)]
    main(arguments, launch)
    launch, jobs = answering({"export": ([], ""), "ctranslate2": ([{"8 rows, beam 1": {}}], ""), "engine": ([], "")})
    main([*arguments, "--skip-done", str(tmp_path / "gpu.json")], launch)
    assert [job["name"] for job in jobs if job["name"] != "export"] == ["ctranslate2", "engine"]
    done = {part["name"]: part["found"] for part in json.loads((tmp_path / "gpu.json").read_text())}
    assert done["ctranslate2"] == {"1 rows, beam 1": {}, "8 rows, beam 1": {}}
    assert "1" in done["steps"]


def test_time_that_is_up_is_told(tmp_path: Path) -> None:
    part = Part("machine", "tiny", "cpu", 60)
    launch, jobs = answering({})
    part.run(tmp_path, 0.5, launch, lambda figure: None)
    assert part.error == "not run: the time is up"
    assert not jobs


def test_what_is_worth_most_comes_first_and_other_software_does_not_count() -> None:
    listed = list(parts("cuda", ["base", "decoder-1b"]))
    assert {part.name for part in listed if not part.counts} == {
        *["attention", "ctranslate2", "hugging_face", "hugging_face_compiled"]
    }
    names = [(part.name, part.subject, part.device) for part in listed]
    assert names[:4] == [
        *[("machine", "base", "cuda"), ("parity", "base", "cuda"), ("parity", "base", "cuda+graphs")],
        ("independence", "base", "cuda+graphs"),
    ]
    assert names.index(("steps", "decoder-1b", "cuda+graphs")) < names.index(("engine", "base", "cuda"))
    assert [part.subject for part in listed if part.name == "attention"] == ["decoder-1b"]
    assert [part.environment for part in listed if part.name == "prompts"] == ["", NO_FLASH] * 2
    assert len({part.key for part in listed}) == len(listed)
    assert len({part.key for part in parts("cpu", ["tiny"])}) == len(list(parts("cpu", ["tiny"])))


def test_a_failed_comparison_says_nothing_of_cuda_graphs() -> None:
    failed = [Part(name, "base", "cuda+graphs", 1, error="no") for name in ("ctranslate2", "parity")]
    assert not graphs_fail(failed[:1])
    assert graphs_fail(failed)
    assert not graphs_fail([Part("independence", "base", "cuda+graphs", 1, error="cut after 50 s")])


def test_the_table_shows_shares_of_the_ceiling() -> None:
    machine = Part("machine", "base", "cuda", 1, found={"bytes_per_second": 4e12})
    step = {"seconds": 1e-3, "tokens_per_second": 8000.0, "least_bytes": 2_000_000_000}
    steps = Part("steps", "base", "cuda", 1, found={"8": step}, beside=["big"])
    text = table([machine, steps])
    assert "steps base cuda: 0.0 s, beside exports of big" in text
    assert "8 rows:    1.000 ms,       8000 tokens/s,  50.0% of the ceiling" in text
    assert "FAILED: no" in table([Part("nodes", "base", "cuda", 1, error="no")])


def test_a_server_on_a_gpu_needs_what_a_server_needs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    runtime, *others = extras["server-gpu"]
    assert runtime.startswith("onnxruntime-gpu[cuda,cudnn]>=")
    assert others == extras["server"][1:]
    assert runtime.partition(">=")[2] == extras["server"][0].partition(">=")[2]
