"""The command ``dragoman``. Its subcommands are the entry points of the group ``dragoman.commands``.

An entry point names a function. One called ``bench load`` is the command ``load`` of the group ``bench``, whatever room
the group's other commands come from. A command's module is imported only when it is called: ``--help`` lists them all,
with the first line of each function's docstring read from the source, also where the packages that they need are
missing.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from dragoman.cli.common import error_lines
from dragoman.errors import DragomanError

GROUP = "dragoman.commands"

_ORDER = (
    "serve",
    "translate",
    "generate",
    "classify",
    "tag",
    "fill-mask",
    "embed",
    "score",
    "explain",
    "models",
    "load-model",
    "unload-model",
    "train",
    "evaluate",
    "export",
    "verify",
    "inspect",
    "bench",
    "doctor",
    "token",
)
_GROUPS = {"bench": "Prove and measure what is promised."}
_EXTRAS = {"dragoman_server": "server", "dragoman_model": "train", "dragoman_export": "export"}


def main() -> None:
    """Run the command line; the console script's entry."""
    app(prog_name="dragoman")


class CommandGroup(typer.core.TyperGroup):
    """Lists commands and groups of commands, and imports the command that is called."""

    def __init__(self, *, points: Iterable[EntryPoint] | None = None, depth: int = 0, **attributes: Any) -> None:
        """``points``: those of the group, by default all that are installed; ``depth``: words of their names before."""
        super().__init__(**attributes)
        self._offered: dict[str, EntryPoint] = {}
        members: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP) if points is None else points:
            members.setdefault(point.name.split()[depth], []).append(point)
        for name in sorted(members, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n)):
            alone = next((point for point in members[name] if len(point.name.split()) == depth + 1), None)
            if alone is not None:
                self._offered[name] = alone
                self.add_command(typer.core.TyperCommand(name, help=summary(alone)))
            else:
                self.add_command(_group(name, members[name], depth + 1))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A group, or the command itself in place of its entry in the list."""
        name, listed, rest = super().resolve_command(ctx, args)
        point = self._offered.get(args[0])
        return name, listed if point is None else load(point), rest


def _group(name: str, points: list[EntryPoint], depth: int) -> CommandGroup:
    return CommandGroup(
        name=name,
        help=_GROUPS.get(name),
        points=points,
        depth=depth,
        no_args_is_help=True,
        rich_markup_mode=None,
    )


app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dragoman {version('dragoman')}")
        raise typer.Exit


@app.callback()
def dragoman(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve Transformers trained in PyTorch over gRPC, and use what is served."""


def summary(point: EntryPoint) -> str:
    """The first line of what an entry point's function says of itself, without importing it."""
    try:
        spec = importlib.util.find_spec(point.module)
    except ModuleNotFoundError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    for line in _docstrings(spec.origin).get(point.attr, "").splitlines():
        return line
    return ""


@functools.cache
def _docstrings(path: str) -> dict[str, str]:
    """By name: the docstrings of a module's functions."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}


def load(point: EntryPoint) -> Any:
    """The entry point's function as a command that ends in an exit code, whatever happens."""
    try:
        function = point.load()
    except ModuleNotFoundError as error:
        _explain_missing(point, error)
        raise typer.Exit(2) from None
    made = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    made.command(point.name.split()[-1])(guarded(point, function))
    return typer.main.get_command(made)


def guarded(point: EntryPoint, function: Callable[..., object]) -> Callable[..., None]:
    """The function, its failures told in plain lines on stderr and turned into exit codes."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except DragomanError as error:
            for line in error_lines(error):
                typer.echo(f"dragoman {point.name}: {line}", err=True)
            raise typer.Exit(1) from None
        except ModuleNotFoundError as error:
            _explain_missing(point, error)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # Whoever read our output has enough. The descriptor is replaced, or the interpreter's last flush of
            # stdout would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None  # as a program that SIGPIPE ends

    return run


def _explain_missing(point: EntryPoint, error: ModuleNotFoundError) -> None:
    room = point.module.partition(".")[0]
    extra = _EXTRAS.get(room)
    if extra is None or error.name is None or error.name.partition(".")[0].startswith("dragoman"):
        raise error  # a module of ours: a broken installation, not a missing extra
    typer.echo(
        f"dragoman {point.name}: {error.name} is not installed; this brings it: pip install 'dragoman[{extra}]'",
        err=True,
    )
