"""A model that was unloaded leaves nothing behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from dragoman import Client
from tests.integration.server_process import SECONDS, ServerProcess, free_port
from tests.soak.watching import Sample, Watcher

MODELS = Path(__file__).parents[2] / "models"
TEXTS = ["Where is the station?", "The train to the coast leaves at noon.", "Nobody has seen the green bicycle."] * 60
LANE = 24
"""MiB of weights and caches that one lane of deu-eng allocates by malloc, at the least."""


def settled(watcher: Watcher, most: float) -> Sample:
    """When no more than ``most`` MiB are allocated; what it is like after a while, where that does not come.

    A model is not listed any more a moment before its memory is given back.
    """
    last = time.monotonic() + SECONDS
    while (one := watcher.sample(0)).heap_used > most and time.monotonic() < last:
        time.sleep(0.05)
    return one


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_falls_back_when_a_model_is_unloaded() -> None:
    http = free_port()
    with ServerProcess(MODELS, "--admin", "--lanes", "2", "--max-rows", "64", "--http-port", str(http)) as server:
        address = server.wait_ready()
        watcher = Watcher(server.process.pid, f"127.0.0.1:{http}")
        with Client(address, timeout=120.0) as client:
            used: list[Sample] = []
            left: list[Sample] = []
            for _ in range(4):
                assert len([t.text for t in client.translate_many(TEXTS, target="de")]) == len(TEXTS)
                used.append(watcher.sample(0))
                client.unload_model("deu-eng")
                assert [model.name for model in client.models()] == ["intents", "shakespeare"]
                left.append(settled(watcher, used[-1].heap_used - 2 * LANE))
                client.load_model("deu-eng")
        # What is allocated is exact: resident memory is that and the holes between, which come and go by 40 MiB.
        for before, after in zip(used, left, strict=True):
            assert before.heap_used - after.heap_used >= 2 * LANE
        # 0.2 MiB in three times; a session or a cache that stayed would be 12 MiB at the least. The first load leaves
        # what comes with the first use of a library.
        assert left[-1].heap_used - left[0].heap_used <= 1
        # And the system has got it back, but for those holes: two lanes would be twice as much.
        assert used[-1].rss - left[-1].rss >= 40
        assert left[-1].rss - left[0].rss <= 60
