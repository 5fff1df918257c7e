"""Each kind of request of the soak, once: what is asked of a server for hours has to be asked rightly."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from dragoman import AsyncClient
from tests.integration.server_process import ServerProcess, free_port
from tests.soak.mixture import SHARES, Asker, ask, short_texts
from tests.soak.watching import Watcher

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_every_kind_of_request_is_answered_as_it_should_be() -> None:
    http = free_port()
    with ServerProcess(MODELS, "--lanes", "1", "--max-rows", "16", "--http-port", str(http)) as server:
        address = server.wait_ready()
        watcher = Watcher(server.process.pid, f"127.0.0.1:{http}")
        async with AsyncClient(address, timeout=60.0) as client:
            asker = Asker(client, address, short_texts(20))
            assert [await ask(kind, asker, random.Random(1)) for kind in SHARES] == [None] * len(SHARES)
        seen = watcher.sample(len(SHARES))
        assert seen.rss > seen.heap_used > 10
        assert seen.rows_used + seen.rows_free == 3 * 16
        assert seen.threads > 3
        assert seen.files > 3
