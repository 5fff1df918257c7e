from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_protos.v1.models_pb2 import Model
from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import FailedPrecondition, NotFound
from dragoman_server.gate import Gate
from dragoman_server.lanes import EngineState
from dragoman_server.loading import LoadingError
from dragoman_server.model_host import ModelHost
from dragoman_server.model_manager import ModelManager
from dragoman_server.repository import ModelVersion, Repository
from dragoman_server.version_policy import parse_policies
from tests.unit.server.test_catalogue import TAG, Reader, host

FAULTY = 3
"""A version that is never well."""


class Engine:
    def __init__(self) -> None:
        self.stopped = threading.Event()

    def start(self) -> None:
        raise AssertionError("it was made running")

    def stop(self, grace: float) -> None:
        self.stopped.set()

    def state(self) -> EngineState:
        return EngineState(0, 0, 0, 0, 0, ())


class Hosts:
    """Makes hosts; a loader."""

    def __init__(self) -> None:
        self.made: list[ModelHost] = []

    def load(self, entry: ModelVersion) -> ModelHost:
        if entry.version == FAULTY:
            raise LoadingError(["faulty"])
        made = replace(host(entry.name, TAG), version=str(entry.version), engine=Engine())
        self.made.append(made)
        return made


def stopped(one: ModelHost) -> bool:
    assert isinstance(one.engine, Engine)
    return one.engine.stopped.is_set()


class AwayRepository(Repository):
    """On a disk that does not answer."""

    def models(self) -> list[ModelVersion]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.root))


async def test_a_repository_that_cannot_be_read_is_told_and_changes_nothing(tmp_path: Path) -> None:
    gate, hosts = Gate(), Hosts()
    repository, policies = AwayRepository(tmp_path), parse_policies("latest")
    manager = ModelManager(gate, repository, policies, grace=60, forget=lambda gone: None)
    manager.open(Catalogue([hosts.load(ModelVersion("a", 2, tmp_path))], "a"), hosts)
    for version in (None, 3):
        with pytest.raises(FailedPrecondition) as refused:
            await manager.load("a", version)
        assert refused.value.faults == [f"the model repository cannot be read: {os.strerror(errno.EIO)}"]
    assert [model.version for model in manager.models()] == ["2"]
    await manager.close(0)


@dataclass(frozen=True)
class Step:
    what: str
    name: str
    version: int | None


STEPS = st.builds(
    Step,
    st.sampled_from(["put", "put", "take", "load", "load", "unload", "follow", "hold", "wait"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([None, 1, 2, FAULTY]),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(STEPS, max_size=14), st.sampled_from(["latest", "all", "pinned:2", "all,b=latest"]))
def test_whatever_happens_nothing_is_stopped_that_is_needed_and_all_else_is(steps: list[Step], policy: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(lived(steps, policy, Path(folder)))


async def lived(steps: list[Step], policy: str, root: Path) -> None:
    gate, hosts, forgotten = Gate(), Hosts(), list[ModelHost]()
    policies = parse_policies(policy)
    # What was made is kept here, to be asked whether it was stopped: its memory is not to be waited for.
    manager = ModelManager(gate, Repository(root), policies, grace=60, forget=forgotten.append, return_seconds=0.0)
    manager.open(Catalogue([hosts.load(ModelVersion("a", 2, root))], "a"), hosts)
    tasks: list[asyncio.Task[None]] = []
    held: list[tuple[Catalogue, ModelHost]] = []
    for step in steps:
        change(step, root, manager, tasks)
        if step.what == "hold" and any(one.name == step.name for one in now_in(gate)):
            call = gate.hold()
            held.append((call, call.find(step.name, Reader, TAG)))
        await asyncio.sleep(0.005 if step.what == "wait" else 0)
        served = list(now_in(gate))
        assert not any(map(stopped, served))
        assert not any(stopped(one) for _, one in held)
        for name in {one.name for one in served}:
            versions = [int(one.version) for one in served if one.name == name]
            assert versions == sorted(set(versions), reverse=True)
            assert policies.of(name).every or len(versions) == 1
            assert all(map(policies.of(name).allows, versions))
    for call, _ in held:
        gate.release(call)
    await asyncio.gather(*tasks)
    while any(model.state not in {Model.STATE_READY, Model.STATE_FAILED} for model in manager.models()):
        await asyncio.sleep(0.005)
    served = list(now_in(gate))
    for one in hosts.made:
        assert stopped(one) != any(one is other for other in served)
        assert stopped(one) == any(one is other for other in forgotten)
    await manager.close(0)
    assert all(map(stopped, hosts.made))


def change(step: Step, root: Path, manager: ModelManager, tasks: list[asyncio.Task[None]]) -> None:
    place = root / step.name / str(step.version or 1)
    match step.what:
        case "put":
            place.mkdir(parents=True, exist_ok=True)
            (place / "bundle.json").touch()
        case "take":
            shutil.rmtree(place, ignore_errors=True)
        case "load":
            tasks.append(asyncio.create_task(refusable(manager.load(step.name, step.version))))
        case "unload":
            tasks.append(asyncio.create_task(refusable(manager.unload(step.name, step.version))))
        case "follow":
            tasks.append(asyncio.create_task(refusable(manager.follow())))


async def refusable(change: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(NotFound, FailedPrecondition):
        await change


def now_in(gate: Gate) -> Catalogue:
    call = gate.hold()
    gate.release(call)
    return call
