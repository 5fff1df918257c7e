"""The models that a server has, by name, and which of them answers requests that name none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.errors import InvalidArgument, NotFound, Violation
from dragoman_server.model_host import ModelHost
from dragoman_server.settings import SettingsError

HostT = TypeVar("HostT", bound=ModelHost)

_USUAL_DEFAULT = "deu-eng"
_LISTED = 20
_DOING = {
    Bundle.TASK_TRANSLATE: "translates",
    Bundle.TASK_GENERATE: "generates",
    Bundle.TASK_CLASSIFY: "classifies",
    Bundle.TASK_TAG: "tags",
    Bundle.TASK_FILL_MASK: "fills masks",
    Bundle.TASK_EMBED: "embeds",
}


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

    def find(self, name: str, kind: type[HostT], task: Bundle.Task.ValueType) -> HostT:
        """The model of that name; for "" the default if it does the task, otherwise the first by name that does.

        Raises NotFound where there is none, InvalidArgument where the named one does not do the task.
        """
        able = {host.name: host for host in self._hosts.values() if isinstance(host, kind) and host.does(task)}
        if not name:
            if not able:
                raise NotFound(f"no model here {_DOING[task]}: {'; '.join(map(abilities, self._hosts.values()))}")
            return able[self.default if self.default in able else min(able)]
        if name not in able:
            host = self.resolve(name)
            others = f"one that {_DOING[task]}: {', '.join(sorted(able)[:_LISTED]) or 'none is served'}"
            raise InvalidArgument([Violation("model", name, f"{others} ({abilities(host)})")])
        return able[name]


def abilities(host: ModelHost) -> str:
    """What the model can do, in words."""
    return f"{host.name} {', '.join(_DOING[task] for task in host.bundle.tasks if task in _DOING) or 'does nothing'}"


def choose_default(names: Sequence[str], wanted: str | None) -> str:
    """The default model of a repository: the wanted one, else deu-eng, else the first by name.

    Raises SettingsError when the wanted one is not there.
    """
    if wanted is not None:
        if wanted not in names:
            raise SettingsError([Violation("default_model", wanted, f"one of {', '.join(sorted(names))}")])
        return wanted
    return _USUAL_DEFAULT if _USUAL_DEFAULT in names else min(names)
