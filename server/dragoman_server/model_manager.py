"""What is served, while it changes: versions are loaded beside those that serve, and go when nobody needs them."""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dragoman_protos.v1.models_pb2 import Model
from dragoman_server.catalogue import Catalogue, choose_default
from dragoman_server.errors import FailedPrecondition, NotFound, Unavailable
from dragoman_server.gate import Gate
from dragoman_server.loading import LoadingError
from dragoman_server.memory_return import give_back
from dragoman_server.model_host import ModelHost
from dragoman_server.repository import ModelVersion, Repository, Stamp, stamp_of
from dragoman_server.version_policy import VersionPolicies

_log = structlog.get_logger(__name__)


class Loader(Protocol):
    """What makes a model of a version; see ``loading.ModelLoader``."""

    def load(self, entry: ModelVersion) -> ModelHost:
        """A model whose engine runs and has answered; blocks. Raises LoadingError."""


_Key = tuple[str, int]


@dataclass(frozen=True)
class _Failure:
    faults: Sequence[str]
    stamp: Stamp
    """Of the folder: what has not changed since will not do better."""


@dataclass(frozen=True)
class _Retirement:
    host: ModelHost
    task: asyncio.Task[None]


class ModelManager:
    """Changes what the gate lets calls in to. Belongs to the event loop's thread.

    A model that is offered no more goes when no call needs it, at the latest after ``grace`` seconds; then ``forget``
    is told, and its memory goes back to the system, for which an unloading waits ``return_seconds`` at most. Loads of
    one model come one after the other, of several side by side, each in a thread; two of the same version are one.
    """

    def __init__(
        self,
        gate: Gate,
        repository: Repository,
        policies: VersionPolicies,
        *,
        grace: float,
        forget: Callable[[ModelHost], None],
        return_seconds: float = 10.0,
    ) -> None:
        self._gate = gate
        self._repository = repository
        self._policies = policies
        self._grace = grace
        self._forget = forget
        self._return_seconds = return_seconds
        self._loader: Loader | None = None
        self._served = Catalogue([], "")
        self._preferred = ""
        """The default model, whenever it is served."""
        self._loading: dict[_Key, asyncio.Task[ModelHost]] = {}
        self._failed: dict[_Key, _Failure] = {}
        self._retiring: list[_Retirement] = []
        self._returning: set[asyncio.Task[None]] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._closed = False

    def open(self, catalogue: Catalogue, loader: Loader) -> None:
        """Serve these models, whose engines run, and from now on what ``loader`` gives."""
        self._loader = loader
        self._preferred = catalogue.default
        self._served = catalogue
        self._gate.open(catalogue)

    def models(self) -> list[Model]:
        """All that is served, is being loaded or unloaded, or could not be loaded: the default first, then by name."""
        models = [host.summary(default=self._served.is_default(host)) for host in self._served]
        for retirement in self._retiring:
            model = retirement.host.summary(default=False)
            model.state = Model.STATE_UNLOADING
            models.append(model)
        models += [Model(name=name, version=str(version), state=Model.STATE_LOADING) for name, version in self._loading]
        models += [
            Model(name=name, version=str(version), state=Model.STATE_FAILED, failure="\n".join(failure.faults))
            for (name, version), failure in self._failed.items()
            if (name, version) not in self._loading
        ]
        return sorted(models, key=lambda model: (not model.default, model.name, -int(model.version), model.state))

    async def load(self, name: str, version: int | None) -> list[Model]:
        """Serve a version of the model, None: what the policy chooses now. What it gave up serving goes by itself.

        When the caller is cancelled, loading goes on. Raises NotFound where the repository has no such version, and
        FailedPrecondition with every reason why one cannot be served, or why the repository cannot be read; those that
        can are served all the same.
        """
        try:
            entries = await asyncio.to_thread(self._wanted, name, version)
        except OSError as error:
            raise FailedPrecondition([f"the model repository cannot be read: {error.strerror}"]) from error
        waits = [asyncio.shield(self._load_task(entry)) for entry in entries]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        faults: list[str] = []
        for outcome in outcomes:
            if isinstance(outcome, FailedPrecondition):
                faults += outcome.faults
            elif isinstance(outcome, BaseException):
                raise outcome
        if faults:
            raise FailedPrecondition(faults)
        versions = {str(entry.version) for entry in entries}
        return [m for m in self.models() if m.name == name and m.version in versions and m.state == Model.STATE_READY]

    async def unload(self, name: str, version: int | None) -> None:
        """Serve a version of the model no more, None: all of it; returns when nothing is left of it.

        When the caller is cancelled, it goes on. Raises NotFound where there is none.
        """
        if not self._knows(name):
            raise NotFound(f"no model {name!r} is served")
        async with self._lock(name):
            failed = [key for key in self._failed if key[0] == name and version in (None, key[1])]
            for key in failed:
                del self._failed[key]
            self._withdraw(host for host in self._versions(name) if version in (None, int(host.version)))
            tasks = [
                retirement.task
                for retirement in self._retiring
                if retirement.host.name == name and version in (None, int(retirement.host.version))
            ]
        if not tasks and not failed:
            raise NotFound(f"no model {name!r} is served" if version is None else f"no {name!r} version {version}")
        await asyncio.shield(asyncio.gather(*tasks))

    async def follow(self) -> None:
        """Serve what the policy chooses of the repository now. What cannot be loaded is logged and listed; of its model
        that which is served stays.

        Raises NotFound where there is no repository.
        """
        entries = await asyncio.to_thread(self._repository.models)
        there = {(entry.name, entry.version) for entry in entries}
        self._failed = {key: failure for key, failure in self._failed.items() if key in there}
        chosen = self._policies.chosen(entries)
        for name in sorted({host.name for host in self._served} | chosen.keys()):
            await self._follow(name, chosen.get(name, []))

    async def close(self, grace: float) -> None:
        """Stop all models, whose requests may go on for ``grace`` seconds; what is being loaded is not served."""
        self._closed = True
        hosts = [*self._served, *(retirement.host for retirement in self._retiring)]
        await asyncio.gather(*(asyncio.to_thread(host.stop, grace) for host in hosts))
        if tasks := [*self._loading.values(), *(retirement.task for retirement in self._retiring)]:
            await asyncio.wait(tasks, timeout=grace)
        for returning in self._returning:
            returning.cancel()

    def _wanted(self, name: str, version: int | None) -> list[ModelVersion]:
        """What to load; reads the repository."""
        policy = self._policies.of(name)
        if version is None:
            found = self._repository.find_all(name)
            if chosen := policy.chosen(found):
                return chosen
            raise NotFound(f"no model {name!r}, version {policy.pinned}, in the repository")
        entry = self._repository.find(name, version)
        if not policy.allows(version):
            raise FailedPrecondition([f"{name} version {version}: the version policy pins version {policy.pinned}"])
        return [entry]

    def _load_task(self, entry: ModelVersion) -> asyncio.Task[ModelHost]:
        key = entry.name, entry.version
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(entry))
            task.add_done_callback(lambda done: self._loaded(key, done))
        return task

    def _loaded(self, key: _Key, task: asyncio.Task[ModelHost]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # it was logged, and nobody need be waiting for it

    async def _load(self, entry: ModelVersion) -> ModelHost:
        async with self._lock(entry.name):
            for host in self._versions(entry.name):
                if int(host.version) == entry.version:
                    return host
            host = await self._made(entry)
            if self._closed:
                await asyncio.to_thread(host.stop, 0)
                raise Unavailable("the server is shutting down")
            self._failed.pop((entry.name, entry.version), None)
            replaced = [] if self._policies.of(entry.name).every else self._versions(entry.name)
            self._withdraw(replaced, host)
            return host

    async def _made(self, entry: ModelVersion) -> ModelHost:
        if self._closed or self._loader is None:
            raise Unavailable("the server is starting or shutting down")
        log = _log.bind(model=entry.name, version=entry.version)
        stamp = await asyncio.to_thread(stamp_of, entry)
        try:
            return await asyncio.to_thread(self._loader.load, entry)
        except LoadingError as error:
            faults = [f"{entry.name} version {entry.version}: {fault}" for fault in error.faults]
            log.error("model not loaded: what is served stays", faults=faults)  # noqa: TRY400  (no trace is wanted)
        except Exception:
            incident = uuid.uuid4().hex
            faults = [f"{entry.name} version {entry.version}: it cannot be started, incident {incident}"]
            log.exception("model not loaded: what is served stays", incident=incident)
        self._failed[entry.name, entry.version] = _Failure(faults, stamp)
        raise FailedPrecondition(faults)

    async def _follow(self, name: str, wanted: Sequence[ModelVersion]) -> None:
        for entry in wanted:
            failure = self._failed.get((name, entry.version))
            if failure is not None and failure.stamp == await asyncio.to_thread(stamp_of, entry):
                continue
            try:
                await asyncio.shield(self._load_task(entry))
            except FailedPrecondition:  # it was logged
                continue
        async with self._lock(name):
            versions = {entry.version for entry in wanted}
            if versions <= {int(host.version) for host in self._versions(name)}:
                self._withdraw(host for host in self._versions(name) if int(host.version) not in versions)

    def _knows(self, name: str) -> bool:
        going = (retirement.host.name for retirement in self._retiring)
        return name in {
            *(host.name for host in self._served),
            *going,
            *(key[0] for key in (*self._loading, *self._failed)),
        }

    def _versions(self, name: str) -> list[ModelHost]:
        return [host for host in self._served if host.name == name]

    def _withdraw(self, hosts: Iterable[ModelHost], *instead: ModelHost) -> None:
        """Offer these models no more, and others instead, in one moment."""
        going = list(hosts)
        if not going and not instead:
            return
        served = [host for host in self._served if not any(host is one for one in going)] + list(instead)
        names = {host.name for host in served}
        wanted = self._preferred if self._preferred in names else None
        self._served = Catalogue(served, choose_default(names, wanted) if names else "")
        self._gate.open(self._served)
        for host in going:
            self._retiring.append(_Retirement(host, asyncio.create_task(self._retire(host))))

    async def _retire(self, host: ModelHost) -> None:
        """Stop the model when no call needs it, at the latest when the grace is over; give its memory back."""
        log = _log.bind(model=host.name, version=host.version)
        end = time.monotonic() + self._grace
        unused = await self._gate.wait_unused(host, self._grace)
        if not unused:
            log.warning("the grace is over: requests of an unloaded model are ended", grace_seconds=self._grace)
        await asyncio.to_thread(host.stop, max(0.0, end - time.monotonic()) if unused else 0.0)
        self._forget(host)
        self._retiring = [one for one in self._retiring if one.host is not host]
        parts = [weakref.ref(part) for part in (host.engine, host.explainer) if part is not None]
        returning = asyncio.create_task(give_back(weakref.ref(host), parts))
        del host  # so that its memory can go
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)
        done, _ = await asyncio.wait([returning], timeout=self._return_seconds)
        if not done:
            log.warning("the memory of an unloaded model is held by a call that has not ended")
        log.info("model unloaded")

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
