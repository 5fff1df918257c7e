"""A model that was unloaded leaves nothing behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dragoman import Client
from tests.integration.server_process import ServerProcess

MODELS = Path(__file__).parents[2] / "models"
MIB = 1 << 20
TEXTS = ["Where is the station?", "The train to the coast leaves at noon.", "Nobody has seen the green bicycle."] * 60


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_falls_back_when_a_model_is_unloaded() -> None:
    with ServerProcess(MODELS, "--admin", "--lanes", "2", "--max-rows", "64") as server:
        address = server.wait_ready()

        def resident() -> float:
            pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / MIB

        with Client(address, timeout=120.0) as client:
            used, left = [], []
            for _ in range(4):
                assert len([t.text for t in client.translate_many(TEXTS, target="de")]) == len(TEXTS)
                used.append(resident())
                client.unload_model("deu-eng")
                assert [model.name for model in client.models()] == ["intents", "shakespeare"]
                left.append(resident())
                client.load_model("deu-eng")
        # Two lanes with about 13 MiB of weights each, and the rows that were used of their caches.
        assert used[-1] - left[-1] >= 40
        # What comes with the first use of a library stays, and holes in the heap, which come and go. Were one lane of
        # each model left, it would be 120.
        assert left[-1] - left[0] <= 60
