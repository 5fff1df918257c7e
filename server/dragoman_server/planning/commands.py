"""``dragoman plan``: how many replicas, lanes and rows answer a rate within a latency, on machines like this one."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dragoman_server.errors import InvalidArgument, NotFound, ServerError, Violation
from dragoman_server.settings import Precision, SettingsError, load_settings

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.planning.profile import Profile
    from dragoman_server.planning.workload import Workload
    from dragoman_server.settings import Settings

_MIB = 1 << 20


def plan(  # noqa: PLR0917  (the arguments are the command line's options)
    rate: Annotated[float, typer.Option(help="Requests in a second, of all callers together.")],
    p99: Annotated[float, typer.Option(metavar="MS", help="Latency that 99 of 100 requests must keep to.")],
    model: Annotated[
        str | None, typer.Option(help="Name of a model in the repository, or folder of a bundle. Default: deu-eng.")
    ] = None,
    models: Annotated[Path | None, typer.Option(help="The repository. Default: as of `dragoman serve`.")] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|MEAN",
            help="What comes: a file of texts, one a line, or a mean number of tokens. Default: our own sentences.",
        ),
    ] = None,
    memory_limit: Annotated[
        int | None, typer.Option("--memory-limit", metavar="MIB", help="Of one replica. Default: none.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What was measured before. Where there is no such file, what is measured now is kept there.",
        ),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Which graphs are served. Default: int8.")] = None,
    lanes: Annotated[int | None, typer.Option(help="To measure with. Default: one for each usable core.")] = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Of a lane, to measure with. Default: 128.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how many replicas, lanes, rows and how much memory a rate of requests needs.

    The model is measured on this machine for about two minutes, during which nothing else should run; each replica is
    thought to have a machine like it to itself, and callers to be elsewhere. Then requests that come at random are
    simulated, greedy ones, by the scheduler's own rules, and their latencies stretched as those of a real server were
    at the same use of the cores. Printed are the predicted latencies and use of the cores, and
    by how much the rate may grow until the latency is no longer kept. The exit status is 1 where it cannot be kept.
    """
    from dragoman_server import logs  # noqa: PLC0415  (--help needs none of these)
    from dragoman_server.bundle import BundleError  # noqa: PLC0415
    from dragoman_server.planning import report  # noqa: PLC0415
    from dragoman_server.planning.planner import Target, Unmeetable  # noqa: PLC0415
    from dragoman_server.planning.planner import plan as search  # noqa: PLC0415
    from dragoman_server.planning.server_process import ServerFailed  # noqa: PLC0415

    logs.configure("warning", "auto")
    try:
        target = Target(rate, p99, None if memory_limit is None else memory_limit * _MIB)
        settings = load_settings({"precision": precision, "lanes": lanes, "max_rows": max_rows, "models": models})
        known, workload = _known(model, settings, profile, lengths)
        found = search(known, workload, target)
    except Unmeetable as error:
        typer.echo(f"dragoman plan: {error}", err=True)
        raise typer.Exit(1) from None
    except (BundleError, InvalidArgument, NotFound, ServerError, ServerFailed, SettingsError, TimeoutError) as error:
        typer.echo(f"dragoman plan: {error}", err=True)
        raise typer.Exit(2) from None
    if json:
        typer.echo(json_format.dumps(report.as_json(found, known, workload)))
    else:
        shown = report.text(found, known, workload, p99)
        Console(markup=False, highlight=False, emoji=False, soft_wrap=True).print(shown)


def _known(model: str | None, settings: Settings, file: Path | None, lengths: str | None) -> tuple[Profile, Workload]:
    """The profile, read or measured, and what comes."""
    from dragoman_server.planning.measuring import measure  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.planning.profile import Profile  # noqa: PLC0415
    from dragoman_server.planning.workload import Workload  # noqa: PLC0415

    mean = _mean(lengths)
    texts = [] if lengths is None or mean is not None else _texts(Path(lengths))
    if file is not None and file.exists():
        known = Profile.read(file)
        if model is not None and Path(model).name != known.model:
            raise InvalidArgument([Violation("profile", f"{file}, of {known.model}", f"a profile of {model}")])
        if texts:
            return known, Workload.of_sources(known, _sources(_bundle(known.model, settings), settings, texts))
    else:
        known = measure(_bundle(model, settings), settings, texts=texts)
        if file is not None:
            known.write(file)
    workload = Workload.measured(known)
    return known, workload if mean is None else workload.scaled(mean, known.family)


def _mean(lengths: str | None) -> float | None:
    """Tokens, where it is a number."""
    if lengths is None:
        return None
    try:
        mean = float(lengths)
    except ValueError:
        return None
    if not 1 <= mean <= 1e6:
        raise InvalidArgument([Violation("lengths", lengths, "1 to 1000000 tokens, or a file")])
    return mean


def _texts(path: Path) -> list[str]:
    try:
        texts = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            [Violation("lengths", str(path), f"a number, or a file of UTF-8 lines: {error}")]
        ) from error
    if not texts:
        raise InvalidArgument([Violation("lengths", str(path), "at least one line of text")])
    return texts


def _bundle(model: str | None, settings: Settings) -> LoadedBundle:
    """A folder that is a bundle, else a name of the repository; None: the default model."""
    from dragoman_server.bundle import MANIFEST, load_bundle  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.catalogue import choose_default  # noqa: PLC0415
    from dragoman_server.loading import newest_versions  # noqa: PLC0415

    if model is not None and (Path(model) / MANIFEST).is_file():
        return load_bundle(Path(model), settings.precision)
    entries = {entry.name: entry for entry in newest_versions(settings.models)}
    name = model or choose_default(list(entries), settings.default_model)
    if name not in entries:
        raise NotFound(f"model = {name}: one of {', '.join(entries)}, or the folder of a bundle")
    return load_bundle(entries[name].path, settings.precision)


def _sources(bundle: LoadedBundle, settings: Settings, texts: list[str]) -> list[int]:
    """Tokens of each text."""
    from dragoman_server.building import build_host  # noqa: PLC0415  (onnxruntime)
    from dragoman_server.planning.subject import subject_of  # noqa: PLC0415

    smallest = settings.model_copy(update={"lanes": 1, "max_rows": 1})
    return [len(source) for source in subject_of(build_host(1, bundle, smallest), texts).sources]
