"""Real engines over tiny bundles: what is put into the repository is served, or refused with every reason."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman import AsyncClient, FailedPrecondition, Retry
from dragoman_server.loading import ModelLoader, load
from dragoman_server.memory_budget import MemoryBudget
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.unit.server import tiny, tiny_encoder


@contextlib.asynccontextmanager
async def served(root: Path, budget: MemoryBudget | None = None, **settings: object) -> AsyncIterator[AsyncClient]:
    values = {"models": root, "precision": "fp32", "lanes": 1, "max_rows": 2, "port": 0, "admin": True} | settings
    given = Settings(**values)  # type: ignore[arg-type]
    server = DragomanServer(given)
    address = await server.start()
    loaded = await asyncio.to_thread(load, given)
    await server.open(loaded.catalogue, ModelLoader(given, budget) if budget else loaded.loader)
    try:
        async with AsyncClient(address, retry=Retry(attempts=1)) as client:
            yield client
    finally:
        await server.drain(5)


async def test_versions_are_exchanged_under_load_without_one_failure(tmp_path: Path) -> None:
    tiny.write_bundle(tmp_path / "tiny" / "1")
    async with served(tmp_path) as client:
        over = asyncio.Event()

        async def traffic(text: str) -> set[tuple[int, str]]:
            answers = set()
            while not over.is_set():
                t = await client.translate(text, target="de", beam_size=2)
                answers.add((int(t.model_version), t.text))
            return answers

        tasks = [asyncio.create_task(traffic(text)) for text in ("The old town.", "A green bicycle.")]
        for version in (2, 3):
            tiny.write_bundle(tmp_path / "tiny" / str(version))
            await client.load_model("tiny")
        over.set()
        for answers in await asyncio.gather(*tasks):
            assert {version for version, _ in answers} <= {1, 2, 3}
            assert len({text for _, text in answers}) == 1  # the versions are alike


async def test_another_family_joins_and_a_damaged_bundle_does_not(tmp_path: Path) -> None:
    tiny.write_bundle(tmp_path / "tiny" / "1")
    async with served(tmp_path) as client:
        tiny_encoder.write_bundle(tmp_path / "reader" / "1", "reader")
        assert [m.name for m in await client.load_model("reader")] == ["reader"]
        assert (await client.classify("A train.", text_pair="It waits.")).model == "reader"
        damaged = tiny.write_bundle(tmp_path / "tiny" / "2")
        (damaged / "tokenizer.json").unlink()
        graph = damaged / "fp32" / "decoder.onnx"
        graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
        with pytest.raises(FailedPrecondition) as refused:
            await client.load_model("tiny")
        reasons = str(refused.value).splitlines()
        assert len(reasons) == 2
        assert all(reason.startswith("tiny version 2: ") for reason in reasons)
        assert "'tokenizer.json': missing" in reasons[1]
        assert "SHA-256" in reasons[0]
        assert str(tmp_path) not in str(refused.value)
        assert (await client.translate("The old town.", target="de")).model_version == "1"


async def test_what_does_not_fit_the_memory_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    tiny.write_bundle(tmp_path / "tiny" / "1")
    budget = MemoryBudget(1 << 16, available=lambda: None, resident=lambda: 0)
    async with served(tmp_path, budget) as client:
        tiny.write_bundle(tmp_path / "tiny" / "2")
        with pytest.raises(FailedPrecondition) as refused:
            await client.load_model("tiny")
        assert re.fullmatch(
            r"tiny version 2: not enough memory: "
            r"0\.\d MiB of weights \+ 1 lane x \(0\.\d MiB of caches \+ 16\.0 MiB to compute with\) = 16\.\d MiB; "
            r"the limit is 0\.1 MiB, 0\.0 MiB are in use",
            str(refused.value),
        )
        assert (await client.translate("The old town.", target="de")).model_version == "1"
