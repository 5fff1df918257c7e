"""How the command line is put together from commands of several packages, and how each ends."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

import dragoman
from dragoman.cli.main import GROUP, CommandGroup, app, guarded, load, summary
from dragoman.cli.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"dragoman {version('dragoman')}\n"


def test_help_lists_every_command_without_their_packages() -> None:
    code = """
import sys
for name in ("torch", "onnx", "onnxruntime", "numpy", "tokenizers", "pydantic_settings", "structlog"):
    sys.modules[name] = None
from dragoman.cli.main import main
main()
"""
    shown = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True).stdout
    for point in entry_points(group=GROUP):
        assert f"\n  {point.name.split()[0]} " in shown
    assert "Translate texts, or stdin line by line." in shown


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["transalte"])
    assert result.exit_code == 2
    assert "translate" in result.stderr


def test_a_summary_is_read_from_the_source() -> None:
    assert (
        summary(EntryPoint("x", "dragoman.cli.models:models", GROUP))
        == "List the models that a server serves, or show one."
    )
    assert summary(EntryPoint("x", "dragoman.cli.models:absent", GROUP)) == ""
    assert summary(EntryPoint("x", "dragoman.absent:absent", GROUP)) == ""
    assert summary(EntryPoint("x", "absent.absent:absent", GROUP)) == ""


def count(most: int) -> None:
    """Count from one."""
    typer.echo(" ".join(map(str, range(1, most + 1))))


def fail_at_once() -> None:
    """Fail."""
    raise dragoman.Unavailable("no server")


COMPOSED = [
    EntryPoint("alone", f"{__name__}:count", GROUP),
    EntryPoint("bench count", f"{__name__}:count", GROUP),
    EntryPoint("bench fail", f"{__name__}:fail_at_once", GROUP),
    EntryPoint("bench independence", "dragoman_server.bench_commands:independence", GROUP),
    EntryPoint("bench absent", "nowhere.commands:absent", GROUP),
]


@pytest.fixture
def composed(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Exit code, stdout and stderr of a command line made of ``COMPOSED``."""

    def runs(*args: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as caught:
            CommandGroup(points=COMPOSED, name="dragoman", rich_markup_mode=None)(args, prog_name="dragoman")
        return caught.value.code, *capsys.readouterr()

    return runs


def test_a_group_is_composed_of_several_rooms_commands(composed: Callable[..., tuple[Any, str, str]]) -> None:
    assert composed("bench", "count", "3") == (0, "1 2 3\n", "")
    assert composed("alone", "2") == (0, "1 2\n", "")
    code, shown, _ = composed("bench", "--help")
    assert code == 0
    for text in (
        "dragoman bench [OPTIONS] COMMAND",
        "Prove and measure what is promised.",
        "count         Count from one.",
        "independence  Prove that every request gets the same answer",
        "absent",
    ):
        assert text in shown
    assert composed("bench", "other")[0] == 2
    assert composed("independence")[0] == 2


def test_a_command_of_a_group_ends_as_any_other(composed: Callable[..., tuple[Any, str, str]]) -> None:
    assert composed("bench", "fail") == (1, "", "dragoman bench fail: no server\n")


def test_a_command_of_a_group_has_its_own_help(composed: Callable[..., tuple[Any, str, str]]) -> None:
    code, shown, _ = composed("bench", "independence", "--help")
    assert code == 0
    assert shown.startswith("Usage: dragoman bench independence [OPTIONS] [BUNDLE]")


@pytest.mark.parametrize(
    ("module", "extra"), [("dragoman_server", "server"), ("dragoman_model", "train"), ("dragoman_export", "export")]
)
def test_a_missing_extra_says_what_brings_it(module: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    def needs_more() -> None:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    with pytest.raises(typer.Exit) as caught:
        guarded(EntryPoint("work", f"{module}.commands:work", GROUP), needs_more)()
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == (
        f"dragoman work: onnxruntime is not installed; this brings it: pip install 'dragoman[{extra}]'\n"
    )


def test_a_broken_installation_is_not_called_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="absent"):
        load(EntryPoint("work", "dragoman_server.absent:work", GROUP))


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (dragoman.Unavailable("no server\nanswers"), 1, "dragoman work: no server answers\n"),
        (
            dragoman.InvalidArgument([dragoman.Violation("a", "1", "2"), dragoman.Violation("b", "3", "4")]),
            1,
            "dragoman work: a = 1: 2\ndragoman work: b = 3: 4\n",
        ),
        (dragoman.Cancelled(), 1, "dragoman work: Cancelled\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_ends(error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        guarded(EntryPoint("work", "dragoman.cli.work:work", GROUP), work)()
    assert (caught.value.exit_code, capsys.readouterr().err) == (code, told)


def test_no_bar_is_drawn_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("translating", 2) as advance:
        advance()
    assert capsys.readouterr() == ("", "")
