"""A model that was unloaded leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dragoman import Client
from dragoman_server.bundle import load_bundle
from dragoman_server.memory_budget import MIB, memory_need
from tests.integration.server_process import ServerProcess, free_port
from tests.soak.watching import Sample, Watcher

MODELS = Path(__file__).parents[2] / "models"
TEXTS = ["Where is the station?", "The train to the coast leaves at noon.", "Nobody has seen the green bicycle."] * 60
LANES, ROWS = 2, 64


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_falls_back_when_a_model_is_unloaded() -> None:
    bundle = load_bundle(MODELS / "deu-eng" / "1", "int8")
    need = memory_need(bundle, lanes=LANES, max_rows=ROWS)
    weights = need.weights / MIB
    logits = ROWS * bundle.manifest.dimensions.vocabulary * 4  # nobody asks for them, so their memory is never touched
    caches = LANES * (need.caches - logits) / MIB
    http = free_port()
    options = ["--lanes", str(LANES), "--max-rows", str(ROWS), "--http-port", str(http)]
    with ServerProcess(MODELS, "--admin", *options) as server:
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
                left.append(watcher.sample(0))
                client.load_model("deu-eng")
        # An unloading is over when the memory has been given back: nothing is waited for.
        for before, after in zip(used, left, strict=True):
            assert before.heap_used - after.heap_used >= weights
            # Of the caches, which malloc does not know, as much as half may never have been touched.
            assert before.rss - after.rss >= weights + caches / 2
        # 0.2 MiB in three times; a session that stayed would be 4 MiB at the least. The first load leaves
        # what comes with the first use of a library.
        assert left[-1].heap_used - left[0].heap_used <= 1
        # Nor do holes add up: 1 to 3 MiB were seen, and 15 where the ends of threads' heaps were not given back.
        assert left[-1].rss - left[0].rss <= 6
