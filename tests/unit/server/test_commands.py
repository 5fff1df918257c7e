from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from dragoman_server import commands, doctor
from dragoman_server.compiled_kernels import KernelLibrary, open_library
from dragoman_server.doctor import Verdict
from tests.unit.server import tiny

RUNNER = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    for name in ("serve", "inspect", "doctor"):
        app.command(name)(getattr(commands, name))
    return app


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Iterator[Path]:
    copy = shutil.copytree(bundle, tmp_path / "tiny" / "1")
    with (copy / "fp32" / "decoder.onnx").open("r+b") as file:
        file.write(b"\xff")
    (copy / "generation.json").unlink()
    yield copy
    shutil.rmtree(copy)


def test_every_option_of_the_server_is_in_the_help(app: typer.Typer) -> None:
    shown = RUNNER.invoke(app, ["serve", "--help"]).stdout
    options = (
        "host port device precision lanes lane-threads max-rows ageing config grace log-level log-format reflection"
    )
    for option in options.split():
        assert f"--{option}" in shown


def test_serve_lists_all_faults_of_its_settings(app: typer.Typer) -> None:
    result = RUNNER.invoke(app, ["serve", "--port", "99999", "--lanes", "0"])
    assert result.exit_code == 1
    assert "--port = 99999" in result.stderr
    assert "--lanes = 0" in result.stderr
    assert result.stdout == ""


def test_serve_refuses_a_repository_that_is_not_there(app: typer.Typer, tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        result = RUNNER.invoke(app, ["serve", str(root), "--port", "0"])
        assert result.exit_code == 1
        assert f"models = {root}" in result.stderr


def test_serve_refuses_a_gpu_that_it_cannot_use(app: typer.Typer, bundle: Path) -> None:
    root = str(bundle.parent.parent)
    result = RUNNER.invoke(app, ["serve", root, "--port", "0", "--precision", "fp32", "--device", "cuda"])
    assert result.exit_code == 1
    assert "device = cuda" in result.stderr


def test_serve_lists_all_faults_of_the_bundles(app: typer.Typer, broken: Path) -> None:
    result = RUNNER.invoke(app, ["serve", str(broken.parent.parent), "--port", "0", "--precision", "fp32"])
    assert result.exit_code == 1
    assert "decoder.onnx" in result.stderr
    assert "generation.json" in result.stderr


def test_inspect_prints_the_facts(app: typer.Typer, bundle: Path) -> None:
    result = RUNNER.invoke(app, ["inspect", str(bundle)])
    assert result.exit_code == 0
    for fact in ("tiny", "encoder-decoder", "translate", "German (de), English (en)", "fp32", "32 tokens"):
        assert fact in result.stdout


def test_inspect_as_json_is_the_manifest(app: typer.Typer, bundle: Path) -> None:
    shown = json.loads(RUNNER.invoke(app, ["inspect", str(bundle), "--json"]).stdout)
    assert shown["name"] == "tiny"
    assert shown["limits"] == {"sourceTokens": 32, "targetTokens": 24}


def test_inspect_lists_every_fault(app: typer.Typer, broken: Path) -> None:
    result = RUNNER.invoke(app, ["inspect", str(broken)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "decoder.onnx" in result.stderr
    assert "generation.json" in result.stderr


def test_inspect_of_a_folder_without_a_bundle(app: typer.Typer, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert "bundle.json" in result.stderr


def test_doctor_looks_at_everything_and_fails_without_a_model(
    app: typer.Typer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAGOMAN_MODELS", str(bundle.parent.parent))
    monkeypatch.setenv("DRAGOMAN_PRECISION", "fp32")
    well = RUNNER.invoke(app, ["doctor"])
    for check in (
        "python",
        "providers",
        "int8 instructions",
        "compiled operators",
        "usable cores",
        "memory",
    ):
        assert check in well.stdout
    assert re.search(r"default bundle +ok +tiny version 1, fp32", well.stdout)
    assert well.exit_code == (" fail " in well.stdout)
    monkeypatch.setenv("DRAGOMAN_MODELS", str(tmp_path))
    ill = RUNNER.invoke(app, ["doctor"])
    assert ill.exit_code == 1
    assert re.search(r"default bundle +fail", ill.stdout)


def test_the_doctors_verdicts() -> None:
    assert doctor.python((3, 10, 1)).verdict is Verdict.FAIL
    assert doctor.python((3, 11, 0)).verdict is Verdict.OK
    assert doctor.instructions(["avx_vnni"]).verdict is Verdict.OK
    assert doctor.instructions([]).verdict is Verdict.WARN
    assert doctor.instructions(None).verdict is Verdict.WARN
    assert doctor.kernels(lambda: KernelLibrary(Path("x"), "avx512")).verdict is Verdict.OK
    assert doctor.kernels(lambda: KernelLibrary(Path("x"), "portable")).verdict is Verdict.WARN
    absent = doctor.kernels(lambda: open_library(Path("nowhere.so")))
    assert absent.verdict is Verdict.WARN
    assert "python -m dragoman_server.kernels.build" in absent.hint
    assert doctor.memory(100 << 20).verdict is Verdict.FAIL
    assert doctor.memory(600 << 20).verdict is Verdict.WARN
    assert doctor.memory(2 << 30).verdict is Verdict.OK
    assert doctor.memory(None).verdict is Verdict.WARN


def test_the_doctor_compares_versions_with_what_the_package_declares() -> None:
    requirements = [
        "typer>=0.1",
        "rich>=9999",
        'nobody-has-this>=1.0; extra == "server"',
        'torch>=99; extra == "train"',
    ]
    assert [(check.name, check.verdict) for check in doctor.packages(requirements)] == [
        ("typer", Verdict.OK),
        ("rich", Verdict.FAIL),
        ("nobody-has-this", Verdict.FAIL),
    ]
    assert doctor.packages(None)[0].verdict is Verdict.WARN
