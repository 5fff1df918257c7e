"""Loading and unloading of models: what is served then, by which name, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dragoman import FailedPrecondition, InvalidArgument, NotFound
from dragoman_server.loading import LoadingError
from dragoman_server.repository import ModelVersion
from tests.contract.administering import READY, administered, put


async def test_a_new_version_takes_over_and_an_old_one_can_come_back(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1") as served:
        assert await served.version() == "1"
        put(tmp_path, "deu-eng", 2)
        assert await served.version() == "1"  # nobody has asked for it
        (loaded,) = await served.client.load_model("deu-eng")
        assert (loaded.name, loaded.version, loaded.state, loaded.default) == ("deu-eng", "2", READY, True)
        assert [await served.version(name) for name in (None, "deu-eng", "deu-eng@2")] == ["2"] * 3
        await served.until(("deu-eng", "2", READY))
        assert served.loader.stopped["deu-eng@1"]
        with pytest.raises(NotFound, match="no version 1 of model 'deu-eng'; served are 2"):
            await served.version("deu-eng@1")
        await served.client.load_model("deu-eng")
        assert served.loader.loads == ["deu-eng@2"]  # it is served already
        await served.client.load_model("deu-eng", version=1)
        assert await served.version() == "1"


async def test_a_bad_version_is_refused_with_all_faults_and_the_old_one_stays(tmp_path: Path) -> None:
    def refuse(entry: ModelVersion) -> None:
        raise LoadingError(["tokenizer.json: missing", "limits.target_tokens = 0: at least 1"])

    def break_down(entry: ModelVersion) -> None:
        raise RuntimeError(f"secret of {entry.path}")

    async with administered(tmp_path, "deu-eng@1") as served:
        put(tmp_path, "deu-eng", 2)
        served.loader.before = refuse
        expected = "deu-eng version 2: tokenizer.json: missing\ndeu-eng version 2: limits.target_tokens = 0: at least 1"
        with pytest.raises(FailedPrecondition) as refused:
            await served.client.load_model("deu-eng")
        assert str(refused.value) == expected
        assert await served.version() == "1"
        current, failed = await served.client.models()
        assert (current.version, current.state, current.failure) == ("1", READY, "")
        assert (failed.version, failed.state, failed.failure) == ("2", "failed", expected)
        served.loader.before = break_down
        with pytest.raises(
            FailedPrecondition, match=r"deu-eng version 2: it cannot be started, incident [0-9a-f]{32}$"
        ):
            await served.client.load_model("deu-eng")
        assert await served.version() == "1"
        served.loader.before = lambda entry: None
        await served.client.load_model("deu-eng")
        await served.until(("deu-eng", "2", READY))


async def test_what_is_not_there_and_what_is_no_name(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1") as served:
        for name, version in (("absent", None), ("deu-eng", 2)):
            with pytest.raises(NotFound):
                await served.client.load_model(name, version=version)
            with pytest.raises(NotFound):
                await served.client.unload_model(name, version=version)
        for change in (served.client.load_model, served.client.unload_model):
            with pytest.raises(InvalidArgument) as refused:
                await change("../etc", version="1/..")
            assert [violation.field for violation in refused.value.violations] == ["name", "version"]
        with pytest.raises(InvalidArgument, match="model = 'deu-eng@x'"):
            await served.version("deu-eng@x")


async def test_without_the_default_another_model_answers_and_without_any_none(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1", "abc@4", "fra-eng@1") as served:
        assert [(m.name, m.default) for m in await served.client.models()] == [
            ("deu-eng", True),
            ("abc", False),
            ("fra-eng", False),
        ]
        await served.client.unload_model("deu-eng")
        assert await served.version() == "4"
        assert (await served.client.model()).name == "abc"
        for name in ("abc", "fra-eng"):
            await served.client.unload_model(name)
        assert await served.client.models() == ()
        with pytest.raises(NotFound, match="no model here translates: none is served"):
            await served.version()
        for missing in (None, "abc"):
            with pytest.raises(NotFound, match="none is served"):
                await served.client.model(missing)
        async with grpc.aio.insecure_channel(served.address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        await served.client.load_model("fra-eng")
        assert (await served.client.model()).name == "fra-eng"
        await served.client.load_model("deu-eng")
        assert (await served.client.model()).name == "deu-eng"


async def test_loads_of_one_model_come_one_after_the_other_and_the_same_are_one(tmp_path: Path) -> None:
    go = threading.Event()
    async with administered(tmp_path, "deu-eng@1", version_policy="all") as served:
        for version in (2, 3):
            put(tmp_path, "deu-eng", version)
        put(tmp_path, "fra-eng", 1)
        served.loader.before = lambda entry: assert_set(go)
        loads = [("deu-eng", 2), ("deu-eng", 3), ("deu-eng", 2), ("fra-eng", 1), ("fra-eng", None)]
        tasks = [asyncio.create_task(served.client.load_model(name, version=version)) for name, version in loads]
        while served.loader.at_once < 2:  # one of each model
            await asyncio.sleep(0.01)
        assert sorted(await served.states()) == [
            ("deu-eng", "1", READY),
            ("deu-eng", "2", "loading"),
            ("deu-eng", "3", "loading"),
            ("fra-eng", "1", "loading"),
        ]
        tasks[0].cancel()  # whoever asked goes away: it is loaded all the same
        go.set()
        await asyncio.gather(*tasks[1:])
        assert served.loader.at_once == 2
        assert sorted(served.loader.loads) == ["deu-eng@2", "deu-eng@3", "fra-eng@1"]
        assert sorted(await served.states()) == [("deu-eng", version, READY) for version in ("1", "2", "3")] + [
            ("fra-eng", "1", READY)
        ]


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


async def test_all_versions_side_by_side(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@9", version_policy="all") as served:
        for version in (2, 10):
            put(tmp_path, "deu-eng", version)
        assert [m.version for m in await served.client.load_model("deu-eng")] == ["10", "9", "2"]
        references = (None, "deu-eng", "deu-eng@2", "deu-eng@9")
        assert [await served.version(reference) for reference in references] == ["10", "10", "2", "9"]
        assert (await served.client.model("deu-eng@2")).version == "2"
        assert [m.version for m in await served.client.models() if m.default] == ["10"]
        await served.client.unload_model("deu-eng", version=10)
        assert await served.version() == "9"
        with pytest.raises(NotFound, match="no version 10 of model 'deu-eng'; served are 9, 2"):
            await served.version("deu-eng@10")
        await served.client.unload_model("deu-eng")
        assert await served.states() == []


async def test_a_pinned_version_is_the_only_one(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@2", "fra-eng@1", version_policy="deu-eng=pinned:2") as served:
        for name in ("deu-eng", "fra-eng"):
            put(tmp_path, name, 3)
            await served.client.load_model(name)
        assert [await served.version(name) for name in ("deu-eng", "fra-eng")] == ["2", "3"]
        with pytest.raises(FailedPrecondition, match="the version policy pins version 2"):
            await served.client.load_model("deu-eng", version=3)


async def test_a_draining_server_does_not_serve_what_it_was_loading(tmp_path: Path) -> None:
    go = threading.Event()
    async with administered(tmp_path, "deu-eng@1") as served:
        put(tmp_path, "deu-eng", 2)
        served.loader.before = lambda entry: assert_set(go)
        loading = asyncio.create_task(served.client.load_model("deu-eng"))
        while not served.loader.loads:
            await asyncio.sleep(0.01)
        loading.cancel()
        go.set()
    assert all(served.loader.stopped.values())
