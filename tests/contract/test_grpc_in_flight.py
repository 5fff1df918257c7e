"""Requests in flight while models come and go: each ends on the version that it began with, which waits for it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman import NotFound
from dragoman_protos.v1 import inference_pb2
from dragoman_server.request import Request
from tests.contract.administering import READY, administered, put
from tests.contract.conftest import echo


async def test_no_request_fails_while_versions_are_exchanged(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1") as served:
        over = asyncio.Event()

        async def traffic() -> list[int]:
            seen = []
            while not over.is_set():
                seen.append(int(await served.version()))
            return seen

        tasks = [asyncio.create_task(traffic()) for _ in range(4)]
        for version in (2, 3):
            put(tmp_path, "deu-eng", version)
            await served.client.load_model("deu-eng")
            assert await served.version() == str(version)
        over.set()
        for seen in await asyncio.gather(*tasks):
            assert seen == sorted(seen)
            assert set(seen) <= {1, 2, 3}
        await served.until(("deu-eng", "3", READY))
        assert all(served.loader.stopped[f"deu-eng@{old}"] for old in (1, 2))


async def test_what_runs_ends_on_the_version_that_it_began_with(tmp_path: Path) -> None:
    held: list[Request] = []
    async with administered(tmp_path, "deu-eng@1") as served:
        old = served.loader.engines["deu-eng@1"]
        old.behave = held.append
        running = asyncio.create_task(served.client.translate("abc", target="de"))
        await old.submitted.get()
        put(tmp_path, "deu-eng", 2)
        await served.client.load_model("deu-eng")
        assert await served.version() == "2"
        assert await served.states() == [("deu-eng", "2", READY), ("deu-eng", "1", "unloading")]
        assert not old.stopped_with
        held[0].finish(echo(held[0]))
        answer = await running
        assert (answer.text, answer.model_version) == ("ABC", "1")
        await served.until(("deu-eng", "2", READY))
        assert old.stopped_with


async def test_each_item_of_a_bulk_stream_goes_to_what_is_served_then(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1") as served:
        old = served.loader.engines["deu-eng@1"]
        messages: asyncio.Queue[inference_pb2.TranslateManyRequest | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
            while (message := await messages.get()) is not None:
                yield message

        answers = aiter(served.inference.TranslateMany(requests()))

        async def asked(number: int) -> str:
            request = inference_pb2.TranslateRequest(text="abc", target_language="de")
            item = inference_pb2.TranslateItem(id=number, request=request)
            messages.put_nowait(inference_pb2.TranslateManyRequest(items=[item]))
            (outcome,) = (await anext(answers)).outcomes
            assert outcome.id == number
            return outcome.response.model_version

        assert await asked(1) == "1"
        put(tmp_path, "deu-eng", 2)
        await served.client.load_model("deu-eng")
        await served.until(("deu-eng", "2", READY))  # the stream, which goes on, keeps nothing
        assert old.stopped_with
        assert await asked(2) == "2"
        messages.put_nowait(None)
        assert [answer async for answer in answers] == []


async def test_unloading_waits_for_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    held: list[Request] = []
    async with administered(tmp_path, "deu-eng@1", "fra-eng@1") as served:
        assert await served.version("deu-eng") == "1"
        engine = served.loader.engines.pop("deu-eng@1")
        engine.behave = held.append
        running = asyncio.create_task(served.client.translate("abc", target="de", model="deu-eng"))
        while not held:
            await asyncio.sleep(0.01)
        unloading = [asyncio.create_task(served.client.unload_model("deu-eng")) for _ in range(2)]
        await served.until(("fra-eng", "1", READY), ("deu-eng", "1", "unloading"))
        with pytest.raises(NotFound, match="no model 'deu-eng'; served are fra-eng"):
            await served.version("deu-eng")
        assert not any(task.done() for task in unloading)
        assert not engine.stopped_with
        held[0].finish(echo(held[0]))
        assert (await running).text == "ABC"
        held.clear()
        while not engine.submitted.empty():
            engine.submitted.get_nowait()
        gone = weakref.ref(engine)
        del engine
        await asyncio.gather(*unloading)
        assert served.loader.stopped["deu-eng@1"]
        assert gone() is None
        with pytest.raises(NotFound):
            await served.client.unload_model("deu-eng")


async def test_nothing_is_left_of_a_model_when_its_unloading_is_over(tmp_path: Path) -> None:
    held: list[Request] = []
    async with administered(tmp_path, "deu-eng@1", "fra-eng@1") as served:
        other = served.loader.engines["fra-eng@1"]
        other.behave = held.append
        running = asyncio.create_task(served.client.translate("abc", target="de", model="fra-eng"))
        while not held:
            await asyncio.sleep(0.01)
        engine = served.loader.engines["deu-eng@1"]
        engine.behave = engine.submit  # as an engine and its lanes know each other: it is garbage to be collected
        gone = weakref.ref(engine)
        del engine
        # A call of another model goes on meanwhile: it found both models in the catalogue, and needs one.
        await served.client.unload_model("deu-eng")
        assert gone() is None
        assert not running.done()
        held[0].finish(echo(held[0]))
        assert (await running).text == "ABC"


async def test_when_the_grace_is_over_what_runs_is_ended(tmp_path: Path) -> None:
    held: list[Request] = []
    async with administered(tmp_path, "deu-eng@1", grace=0.05) as served:
        served.loader.engines["deu-eng@1"].behave = held.append
        running = asyncio.create_task(served.client.translate("abc", target="de"))
        while not held:
            await asyncio.sleep(0.01)
        unloading = asyncio.create_task(served.client.unload_model("deu-eng"))
        while not served.loader.stopped["deu-eng@1"]:
            await asyncio.sleep(0.01)
        assert served.loader.stopped["deu-eng@1"] == [0.0]  # which ends all that it has
        held[0].finish(echo(held[0]))
        held.clear()
        await running
        await unloading
