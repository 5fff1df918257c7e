"""The models that a server has, by name, and which of them answers requests that name none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dragoman_server.errors import NotFound, Violation
from dragoman_server.model_host import ModelHost
from dragoman_server.settings import SettingsError

_USUAL_DEFAULT = "deu-eng"


class Catalogue:
    """The loaded models; never changes."""

    def __init__(self, hosts: Sequence[ModelHost], default: str) -> None:
        self._hosts = {host.name: host for host in hosts}
        assert default in self._hosts
        self.default = default

    def __iter__(self) -> Iterator[ModelHost]:
        return iter(self._hosts.values())

    def resolve(self, name: str) -> ModelHost:
        """The model of that name, the default for "". Raises NotFound."""
        try:
            return self._hosts[name or self.default]
        except KeyError:
            raise NotFound(f"no model {name!r}; served are {', '.join(sorted(self._hosts))}") from None


def choose_default(names: Sequence[str], wanted: str | None) -> str:
    """The default model of a repository: the wanted one, else deu-eng, else the first by name.

    Raises SettingsError when the wanted one is not there.
    """
    if wanted is not None:
        if wanted not in names:
            raise SettingsError([Violation("default_model", wanted, f"one of {', '.join(sorted(names))}")])
        return wanted
    return _USUAL_DEFAULT if _USUAL_DEFAULT in names else min(names)
