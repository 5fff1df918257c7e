"""The commands that the server room offers to ``dragoman``: serve, inspect, doctor."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from dragoman_server.compiled_kernels import Kernels
from dragoman_server.settings import (
    DeviceName,
    LogFormat,
    LogLevel,
    Precision,
    RepositoryMode,
    SettingsError,
    load_settings,
)


def serve(  # noqa: PLR0917  (the arguments are the command line's options)
    models: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODELS",
            help="Model repository: a folder with NAME/VERSION/bundle.json. Default: ./models where it exists, "
            "else the model in the package. Of every model the newest version is served, unless --version-policy "
            "says otherwise.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default: 50051.")] = None,
    http_port: Annotated[
        int | None,
        typer.Option("--http-port", help="Port for the JSON API, metrics and probes over HTTP. Default: none."),
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option("--otlp-endpoint", metavar="URL", help="Where traces are sent, over gRPC. Default: nowhere."),
    ] = None,
    device: Annotated[
        DeviceName | None,
        typer.Option(help="Where the graphs run. Default: auto, a GPU where one can be used."),
    ] = None,
    cuda_graphs: Annotated[
        bool | None,
        typer.Option("--cuda-graphs", help="On a GPU: capture a step once for each number of rows. Default: no."),
    ] = None,
    gpu_reserve: Annotated[
        float | None,
        typer.Option("--gpu-reserve", help="Share of a GPU's memory that caches leave free. Default: 0.1."),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Which graphs are served. Default: int8.")] = None,
    kernels: Annotated[
        Kernels | None,
        typer.Option(
            help="Operators of int8 models: compiled, or onnxruntime's (builtin). Default: auto, the faster ones."
        ),
    ] = None,
    lanes: Annotated[
        int | None, typer.Option(help="Engine threads for each model. Default: one for each usable core; on a GPU 1.")
    ] = None,
    lane_threads: Annotated[
        int | None,
        typer.Option("--lane-threads", help="Threads that compute a lane's step together. Default: 1."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Hypotheses that a lane decodes at once. Default: 128.")
    ] = None,
    stream_window: Annotated[
        int | None,
        typer.Option("--stream-window", help="Segments of one bulk call under way at once. Default: 512."),
    ] = None,
    version_policy: Annotated[
        str | None,
        typer.Option(
            "--version-policy",
            metavar="[NAME=]POLICY,...",
            help="Which versions are served, of all models or of one: latest, all or pinned:N. Default: latest.",
        ),
    ] = None,
    repository_mode: Annotated[
        RepositoryMode | None,
        typer.Option(
            "--repository-mode",
            help="poll: what is put into the repository is served. Default: explicit, it is read once.",
        ),
    ] = None,
    poll_seconds: Annotated[
        float | None, typer.Option("--poll-seconds", help="Between two looks at the repository. Default: 10.")
    ] = None,
    memory_limit: Annotated[
        int | None,
        typer.Option(
            "--memory-limit",
            metavar="MIB",
            help="No model is loaded for which there is no room. Default: the machine's.",
        ),
    ] = None,
    admin: Annotated[
        bool | None,
        typer.Option("--admin/--no-admin", help="Let callers load and unload models. Default: no."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings, named like these options: max_rows = 32.")
    ] = None,
    ageing: Annotated[
        float | None, typer.Option(help="Seconds of waiting that are worth one level of priority. Default: 1.")
    ] = None,
    grace: Annotated[
        float | None, typer.Option(help="Seconds for work in flight when the server stops. Default: 30.")
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="Least severe messages logged. Default: info.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How logs are written to stderr. Default: auto.")] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM). May be replaced while it runs.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key (PEM).")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only clients with a certificate of these authorities (PEM).")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Calls need a bearer token of this file: dragoman token.")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen where others can reach it without TLS or without tokens."),
    ] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection/--no-reflection", help="Offer gRPC reflection. Default: no.")
    ] = None,
) -> None:
    """Serve the models of a repository over gRPC, and over HTTP with --http-port, until SIGTERM or SIGINT.

    Each option may also be given as an environment variable, such as DRAGOMAN_PORT or DRAGOMAN_MAX_ROWS, or in the
    configuration file. An option outranks the variable, the variable the file, the file the default. What has no
    option (default_model, max_waiting, max_waiting_tokens, max_message_bytes, max_connections, max_streams,
    slow_reader_seconds, keepalive_seconds, keepalive_timeout_seconds, handshake_timeout_seconds) is set in the other
    two.

    When requests are answered, the address, the models and a first translation are printed to stdout.
    """
    began = time.monotonic()
    flags = {
        "models": models,
        "host": host,
        "port": port,
        "http_port": http_port,
        "otlp_endpoint": otlp_endpoint,
        "device": device,
        "cuda_graphs": cuda_graphs,
        "gpu_reserve": gpu_reserve,
        "precision": precision,
        "kernels": kernels,
        "lanes": lanes,
        "lane_threads": lane_threads,
        "max_rows": max_rows,
        "ageing": ageing,
        "stream_window": stream_window,
        "version_policy": version_policy,
        "repository_mode": repository_mode,
        "poll_seconds": poll_seconds,
        "memory_limit": memory_limit,
        "admin": admin,
        "grace": grace,
        "log_level": log_level,
        "log_format": log_format,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "tokens": tokens,
        "insecure": insecure,
        "reflection": reflection,
    }
    # Imported here: --help needs none of it.
    from dragoman_server import garbage, lifecycle, logs, machine  # noqa: PLC0415
    from dragoman_server.announcement import announcement  # noqa: PLC0415
    from dragoman_server.event_loop import new_event_loop, switch_soon  # noqa: PLC0415
    from dragoman_server.loading import Loaded, LoadingError, load  # noqa: PLC0415

    def ready(address: str, http_url: str | None, loaded: Loaded) -> None:
        seconds = machine.process_age() or time.monotonic() - began
        print(announcement(address, loaded, seconds, http_url), flush=True)

    try:
        settings = load_settings(flags, config)
        logs.configure(settings.log_level, settings.log_format)
        garbage.collect_seldom()
        switch_soon()
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(lifecycle.run(settings, load, ready))
    except (SettingsError, LoadingError) as error:
        typer.echo(f"dragoman serve: {error}", err=True)
        raise typer.Exit(1) from None


def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle, such as models/deu-eng/1.")],
    json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Check a bundle and print what it holds: model, languages, limits, licence and certificate.

    Every file's hash and every graph's inputs and outputs are checked. All faults are listed on stderr, and the exit
    status is 1, when it is not exactly what its bundle.json says.
    """
    from google.protobuf import json_format  # noqa: PLC0415  (--help needs none of these)
    from rich.console import Console  # noqa: PLC0415

    from dragoman_server.bundle import BundleError  # noqa: PLC0415
    from dragoman_server.inspection import checked_manifest, rendered  # noqa: PLC0415

    try:
        manifest = checked_manifest(bundle)
    except BundleError as error:
        typer.echo(f"{bundle}: {len(error.faults)} fault(s)", err=True)
        for fault in error.faults:
            typer.echo(f"  {fault}", err=True)
        raise typer.Exit(1) from None
    if json:
        typer.echo(json_format.MessageToJson(manifest, indent=2))
    else:
        Console(markup=False, highlight=False, emoji=False).print(rendered(manifest))


def doctor() -> None:
    """Check whether this machine and installation can serve, and how well.

    Looks at Python, the packages, onnxruntime's providers, the processor, memory and the default model.
    The exit status is 1 when something is missing without which the server cannot start.
    """
    from rich.console import Console  # noqa: PLC0415  (--help needs none of it, nor does a server)
    from rich.table import Table  # noqa: PLC0415

    from dragoman_server import doctor as examination  # noqa: PLC0415

    checks = examination.examine(examination.load_default_bundle)
    table = Table("check", "", "found", "hint", box=None)
    for check in checks:
        table.add_row(check.name, check.verdict.value, check.found, check.hint)
    Console(markup=False, highlight=False, emoji=False).print(table)
    if any(check.verdict is examination.Verdict.FAIL for check in checks):
        raise typer.Exit(1)
