"""What ``dragoman serve`` prints when it is ready."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.loading import Loaded
from dragoman_server.model_host import ModelHost

_WIDTH = 10


def announcement(address: str, loaded: Loaded, seconds: float, http_url: str | None = None) -> str:
    """Addresses, models and what each one's first answers were; ``seconds`` is the time to ready.

    ``http_url`` None: there is no HTTP port.
    """
    lines = [f"Dragoman {installed_version()} is ready after {seconds:.1f} s", _line("gRPC", address)]
    if http_url is not None:
        lines.append(_line("HTTP", http_url))
    for host in loaded.catalogue:
        default = " (default)" if loaded.catalogue.is_default(host) else ""
        lines.append(_line("model", f"{host.name} version {host.version}{default}: {_facts(host)}"))
        lines += [
            _line(first.label, f"{first.question} -> {_printable(first.answer)}") + f"  ({first.seconds * 1e3:.0f} ms)"
            for first in loaded.first_answers[host.name, host.version]
        ]
    return "\n".join(lines)


def _facts(host: ModelHost) -> str:
    languages = ", ".join(f"{language.name} ({language.code})" for language in host.bundle.languages)
    lanes = "1 lane" if host.lanes == 1 else f"{host.lanes} lanes"
    what = languages or ", ".join(_word(task) for task in host.bundle.tasks)
    return f"{what}; {host.precision} on {host.provider}, {lanes} of {host.max_rows} rows"


def _word(task: Bundle.Task.ValueType) -> str:
    return Bundle.Task.Name(task).removeprefix("TASK_").lower().replace("_", "-")


def _printable(text: str) -> str:
    """A model may produce anything: nothing of it steers the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}}{text}"


def installed_version() -> str:
    """Of this package."""
    try:
        return version("dragoman")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "(not installed)"
