"""``dragoman bench load`` on the command line, against a server that answers backwards."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import typer
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from dragoman.cli.load import load
from dragoman.cli.load_progress import Bar
from dragoman.cli.main import GROUP, guarded
from dragoman.load.result import from_json
from dragoman.load.samples import Tally
from dragoman_protos.v1 import bundle_pb2, inference_pb2, models_pb2
from tests.unit.client.conftest import reversal
from tests.unit.client.load.points import point

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer

ROOT = Path(__file__).parents[4]
SHORT = ("--duration", "0.2", "--warm-up", "0", "--requests", "5")

command = typer.Typer()
command.command()(guarded(EntryPoint("bench load", "dragoman.cli.load:load", GROUP), load))


def served() -> models_pb2.ListModelsResponse:
    """One model that translates."""
    tasks = [bundle_pb2.Bundle.TASK_TRANSLATE]
    model = models_pb2.Model(
        name="deu-eng", version="1", tasks=tasks, languages=["de", "en"], precision="int8", default=True
    )
    return models_pb2.ListModelsResponse(models=[model])


@pytest.fixture(autouse=True)
def models(fake: FakeServer) -> None:
    fake.served = served()


def run(fake: FakeServer, *args: str) -> Any:
    return CliRunner().invoke(command, ["--server", fake.address, *args])


def test_a_table_and_what_it_says(fake: FakeServer) -> None:
    found = run(fake, *SHORT, "--workload", "short", "--concurrency", "1,2", "--rate", "50%,30")
    assert found.exit_code == 0, found.stderr
    for text in ("1 user ", "2 users", "30.0/s", "Capacity", "Knee", "Workload short", "deu-eng 1 (int8"):
        assert text in found.stdout
    lines = found.stderr.splitlines()
    assert lines[0].endswith("answers alone")
    assert lines[1].startswith("short: 1 user: ")
    assert len(lines) == 5


def test_json_and_files(fake: FakeServer, tmp_path: Path) -> None:
    options = ("--rate", "30", "--objective-p99-ms", "60000", "--price-per-hour", "0.5", "--timeout", "20")
    found = run(fake, *SHORT, *options, "--output", str(tmp_path / "new"), "--json", "--seed", "4")
    assert found.exit_code == 0, found.stderr
    values = json.loads(found.stdout)
    assert values == json.loads((tmp_path / "new" / "mixed.json").read_text())
    read = from_json(values)
    assert [p.mode for p in read.points] == ["open"]
    assert (read.seed, read.price_per_hour, read.timeout, read.objectives.latency_ms) == (4, 0.5, 20.0, 60_000.0)
    assert (tmp_path / "new" / "mixed.md").read_text().startswith("## mixed")
    assert (tmp_path / "new" / "mixed.png").is_file()


def test_texts_of_ones_own(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("eins\n\nzwei\n")
    found = run(fake, *SHORT, "--rate", "20", "--texts", str(tmp_path / "texts"), "--target", "en")
    assert found.exit_code == 0, found.stderr
    assert {request.text for request in fake.requests} <= {"eins", "zwei"}
    assert {request.target_language for request in fake.requests} == {"en"}


def test_wrong_answers_make_the_exit_status(fake: FakeServer) -> None:
    seen: set[str] = set()

    def other_the_second_time(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        again = request.text in seen
        seen.add(request.text)
        return reversal(request.text * 2 if again else request.text)

    fake.answer = other_the_second_time
    found = run(fake, *SHORT, "--concurrency", "1")
    assert found.exit_code == 1
    assert "wrong-answer" in found.stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--concurrency", "0,x", "--rate", "-1,5"), ["--rate = '-1'", "--concurrency = '0'", "--concurrency = 'x'"]),
        (
            ("--workload", "night", "--rate", "x", "--objective-ttft-ms", "-1", "--texts", "/nowhere"),
            ["--rate = 'x'", "--objective-ttft-ms = -1", "--texts = '/nowhere'", "--workload = 'night'"],
        ),
        (("--concurrency", "", "--rate", "80%"), ["--rate = '80%': without --concurrency"]),
        (
            ("--objective-p99-ms", "0", "--objective-tpot-ms", "0"),
            ["--objective-p99-ms = 0", "--objective-tpot-ms = 0"],
        ),
        (("--workload", "night"), ["--workload = 'night'"]),
        (("--workload", "day"), ["no model that can: classify, generate"]),
        (("--texts", "/nowhere"), ["--texts = '/nowhere'"]),
    ],
)
def test_what_cannot_be_measured(fake: FakeServer, args: tuple[str, ...], told: list[str]) -> None:
    found = run(fake, *args)
    assert (found.exit_code, found.stdout) == (1, "")
    lines = found.stderr.splitlines()
    assert len(lines) == len(told)
    for line, text in zip(lines, told, strict=True):
        assert line.startswith("dragoman bench load: ")
        assert text in line


def test_a_folder_that_is_none_is_told_before_anything_is_asked(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = run(fake, *SHORT, "--rate", "20", "--output", str(tmp_path / "file"))
    assert found.exit_code == 1
    assert found.stderr.startswith("dragoman bench load: --output = ")
    assert not fake.requests


def test_without_matplotlib_there_is_all_but_the_picture(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.modules["matplotlib"] = None
from dragoman.cli.load import write
from tests.unit.client.load.points import point, result
write(result(point(1, 1.0)), Path(sys.argv[1]))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.json", "mixed.md"]
    assert shown.stderr == (
        "dragoman bench load: no picture: matplotlib is not installed; this brings it: pip install 'dragoman[plot]'\n"
    )


def test_a_token_and_tls_go_with_every_call(secure: FakeServer, authority: trustme.CA, tmp_path: Path) -> None:
    secure.served = served()
    ca, token = tmp_path / "ca.pem", tmp_path / "token"
    authority.cert_pem.write_to_path(str(ca))
    token.write_text("secret\n")
    where = ("--server", f"localhost:{secure.port}", "--tls-ca", str(ca), "--token-file", str(token))
    found = CliRunner().invoke(command, [*where, *SHORT, "--concurrency", "2"])
    assert found.exit_code == 0, found.stderr
    assert len(secure.requests) > 5
    assert {metadata.get("authorization") for metadata in secure.metadata} == {"Bearer secret"}


def test_texts_without_text(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    assert "at least one line" in run(fake, "--texts", str(tmp_path / "empty")).stderr


def test_a_bar_says_how_far_it_is() -> None:
    console = Console(file=io.StringIO(), width=120)
    with Progress(console=console, auto_refresh=False) as progress:
        bar = Bar(console, progress)
        bar.begin("mixed: 4 users", 10.0)
        bar.advance(2.5, Tally(sent=7, ended=5))
        (task,) = progress.tasks
        assert (task.description, task.completed, task.total) == ("mixed: 4 users", 2.5, 10.0)
        assert task.fields["state"] == "2 under way, 5 answered, 0 failed"
        bar.end(point(4, 100.0))
    assert "mixed: 4 users: 100.0 requests/s, p50 10.0 ms" in console.file.getvalue()  # type: ignore[attr-defined]
