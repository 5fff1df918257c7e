"""A server that follows its repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dragoman import FailedPrecondition
from dragoman_server.loading import LoadingError
from dragoman_server.repository import ModelVersion
from tests.contract.administering import READY, administered, put

POLL = {"repository_mode": "poll", "poll_seconds": 0.05}


async def test_folders_that_come_and_go(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1", **POLL) as served:
        (tmp_path / "deu-eng" / "2").mkdir()  # being copied: nobody looks into it
        put(tmp_path, "fra-eng", 7)
        await served.until(("deu-eng", "1", READY), ("fra-eng", "7", READY))
        (tmp_path / "deu-eng" / "2").rmdir()
        newest = put(tmp_path, "deu-eng", 2)
        await served.until(("deu-eng", "2", READY), ("fra-eng", "7", READY))
        shutil.rmtree(newest)
        await served.until(("deu-eng", "1", READY), ("fra-eng", "7", READY))
        shutil.rmtree(tmp_path / "fra-eng")
        await served.until(("deu-eng", "1", READY))
        assert served.loader.loads == ["fra-eng@7", "deu-eng@2", "deu-eng@1"]


async def test_all_versions_are_followed_where_all_are_served(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1", version_policy="all", **POLL) as served:
        put(tmp_path, "deu-eng", 3)
        await served.until(("deu-eng", "3", READY), ("deu-eng", "1", READY))
        shutil.rmtree(tmp_path / "deu-eng" / "1")
        await served.until(("deu-eng", "3", READY))


async def test_what_cannot_be_loaded_is_tried_again_when_it_has_changed(tmp_path: Path) -> None:
    def refuse(entry: ModelVersion) -> None:
        if (entry.path / "bundle.json").read_text() == "{}":
            raise LoadingError(["broken"])

    async with administered(tmp_path, "deu-eng@1", **POLL) as served:
        served.loader.before = refuse
        put(tmp_path, "fra-eng", 1)
        broken = put(tmp_path, "deu-eng", 2)
        failures = (("deu-eng", "2", "failed"), ("fra-eng", "1", "failed"))
        await served.until(("deu-eng", "1", READY), *failures)
        served.loader.before = lambda entry: None
        put(tmp_path, "abc", 1)  # when that is there, the repository was looked at again
        await served.until(("deu-eng", "1", READY), ("abc", "1", READY), *failures)
        assert sorted(served.loader.loads) == ["abc@1", "deu-eng@2", "fra-eng@1"]
        assert await served.version() == "1"
        served.loader.before = refuse
        (broken / "bundle.json").write_text("{ }")
        shutil.rmtree(tmp_path / "fra-eng")
        await served.until(("deu-eng", "2", READY), ("abc", "1", READY))


async def test_a_repository_that_is_away_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    root.mkdir()
    async with administered(root, "deu-eng@1", **POLL) as served:
        root.rename(tmp_path / "away")
        assert await served.version() == "1"
        put(tmp_path / "away", "deu-eng", 2)
        assert await served.states() == [("deu-eng", "1", READY)]
        (tmp_path / "away").rename(root)
        await served.until(("deu-eng", "2", READY))


async def test_nobody_else_says_what_is_served(tmp_path: Path) -> None:
    async with administered(tmp_path, "deu-eng@1", **POLL) as served:
        for change in (served.client.load_model, served.client.unload_model):
            with pytest.raises(FailedPrecondition, match="the server follows its repository"):
                await change("deu-eng")
