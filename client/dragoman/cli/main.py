"""The command ``dragoman``. Its subcommands are the entry points of the group ``dragoman.commands``.

An entry point names a function, or a ``typer.Typer`` that groups several. A subcommand's module is imported only when
it is called: ``dragoman --help`` lists them all, with the first line of each function's docstring (of a group: its
``help``) read from the source, also where the packages that they need are missing.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import os
import sys
from collections.abc import Callable
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
_EXTRAS = {"dragoman_server": "server", "dragoman_model": "train", "dragoman_export": "export"}


def main() -> None:
    """Run the command line; the console script's entry."""
    app(prog_name="dragoman")


class CommandGroup(typer.core.TyperGroup):
    """Lists every entry point of the group, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._offered = {point.name: point for point in entry_points(group=GROUP)}
        for name in sorted(self._offered, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n)):
            self.add_command(typer.core.TyperCommand(name, help=summary(self._offered[name])))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself in place of its entry in the list."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(self._offered[args[0]]), rest


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
    """The first line of what an entry point's function or group says of itself, without importing it."""
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
    """By name: the docstrings of a module's functions, and of its groups ``typer.Typer(help="...", ...)`` the help."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    found = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(keywords=[ast.keyword(arg="help", value=ast.Constant(value=str(text))), *_]),
            ):
                found[name] = text
    return found


def load(point: EntryPoint) -> Any:
    """The entry point's function or group as a command that ends in an exit code, whatever happens."""
    try:
        offered = point.load()
    except ModuleNotFoundError as error:
        _explain_missing(point, error)
        raise typer.Exit(2) from None
    made = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    if isinstance(offered, typer.Typer):
        made.info = copy.copy(offered.info)
        made.info.no_args_is_help = True
        made.callback()(lambda: None)  # or a single command would take the group's place
        for command in offered.registered_commands:
            assert command.callback
            name = command.name or command.callback.__name__
            member = EntryPoint(f"{point.name} {name}", point.value, point.group)
            made.command(name)(guarded(member, command.callback))
    else:
        made.command(point.name)(guarded(point, offered))
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
