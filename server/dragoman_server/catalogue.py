"""The models that a server has, by name, and which of them answers requests that name none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
    """The loaded models, as they were at one moment; they never become others. By name, the newest version first.

    A request names a model as "NAME", its newest version, or as "NAME@VERSION".
    """

    def __init__(self, hosts: Iterable[ModelHost], default: str) -> None:
        self._hosts: dict[str, dict[str, ModelHost]] = {}
        for host in sorted(hosts, key=lambda host: (host.name, -int(host.version))):
            self._hosts.setdefault(host.name, {})[host.version] = host
        assert default in self._hosts or not self._hosts
        self.default = default
        self._found: list[ModelHost] = []

    def for_call(self) -> Catalogue:
        """The same for one call, which is to remember what the call has found in it."""
        view = Catalogue.__new__(Catalogue)
        view._hosts, view.default, view._found = self._hosts, self.default, []
        return view

    def needs(self, host: ModelHost) -> bool:
        """Whether the call may use the host: it has found it, or nothing so far and may find it."""
        return any(one is host for one in self._found or self)

    def let_go(self, host: ModelHost) -> None:
        """Of a call that does not need the host: hold it no more, so that its memory can go before the call ends."""
        assert not self.needs(host)
        self._hosts = {
            name: {version: one for version, one in versions.items() if one is not host}
            for name, versions in self._hosts.items()
            if any(one is not host for one in versions.values())
        }

    def __iter__(self) -> Iterator[ModelHost]:
        for versions in self._hosts.values():
            yield from versions.values()

    def is_default(self, host: ModelHost) -> bool:
        """Whether it answers requests that name no model."""
        return self.default in self._hosts and self._newest(self.default) is host

    def resolve(self, reference: str) -> ModelHost:
        """The model of that name, the default for "". Raises NotFound."""
        host = self._named(reference or self.default)
        self._found.append(host)
        return host

    def find(self, reference: str, kind: type[HostT], task: Bundle.Task.ValueType) -> HostT:
        """The model of that name; for "" the default if it does the task, otherwise the first by name that does.

        Raises NotFound where there is none, InvalidArgument where the named one does not do the task.
        """
        if reference:
            host = self._named(reference)
            if not (isinstance(host, kind) and host.does(task)):
                others = ", ".join(sorted(self._able(kind, task))[:_LISTED]) or "none is served"
                limit = f"one that {_DOING[task]}: {others} ({abilities(host)})"
                raise InvalidArgument([Violation("model", reference, limit)])
        else:
            able = self._able(kind, task)
            if not able:
                what = "; ".join(abilities(self._newest(name)) for name in self._hosts) or "none is served"
                raise NotFound(f"no model here {_DOING[task]}: {what}")
            host = able[self.default if self.default in able else min(able)]
        self._found.append(host)
        return host

    def finds(self, reference: str, host: ModelHost) -> bool:
        """Whether that name, or "" the default, means the host; it then counts as found. What it does is not asked."""
        name, _, version = (reference or self.default).partition("@")
        versions = self._hosts.get(name)
        if versions is None or (versions.get(version) if version else next(iter(versions.values()))) is not host:
            return False
        self._found.append(host)
        return True

    def _able(self, kind: type[HostT], task: Bundle.Task.ValueType) -> dict[str, HostT]:
        newest = ((name, self._newest(name)) for name in self._hosts)
        return {name: host for name, host in newest if isinstance(host, kind) and host.does(task)}

    def _newest(self, name: str) -> ModelHost:
        return next(iter(self._hosts[name].values()))

    def _named(self, reference: str) -> ModelHost:
        name, _, version = reference.partition("@")
        if name not in self._hosts:
            served = f"served are {', '.join(sorted(self._hosts)[:_LISTED])}" if self._hosts else "none is served"
            raise NotFound(f"no model {name!r}; {served}")
        if not version:
            return self._newest(name)
        versions = self._hosts[name]
        if version not in versions:
            raise NotFound(f"no version {version} of model {name!r}; served are {', '.join(list(versions)[:_LISTED])}")
        return versions[version]


def abilities(host: ModelHost) -> str:
    """What the model can do, in words."""
    return f"{host.name} {', '.join(_DOING[task] for task in host.bundle.tasks if task in _DOING) or 'does nothing'}"


def choose_default(names: Collection[str], wanted: str | None) -> str:
    """The default model of a repository: the wanted one, else deu-eng, else the first by name.

    Raises SettingsError when the wanted one is not there.
    """
    if wanted is not None:
        if wanted not in names:
            raise SettingsError([Violation("default_model", wanted, f"one of {', '.join(sorted(names))}")])
        return wanted
    return _USUAL_DEFAULT if _USUAL_DEFAULT in names else min(names)
