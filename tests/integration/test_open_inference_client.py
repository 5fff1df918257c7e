"""NVIDIA's tritonclient against ``dragoman serve``: the programs of docs/open-inference.md print what it says.

In processes of their own: tritonclient brings its own definitions of the protocol's messages.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman import Client
from tests.integration.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "open-inference.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(PRINTED,) = re.findall(r"prints\n\n```\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ServerProcess(ROOT / "models", "--lanes", "1") as server:
        yield server.wait_ready()


def run(program: str, address: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, address], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_the_page_prints_what_it_says(address: str) -> None:
    assert run(PROGRAMS[0], address) == PRINTED


def test_a_stream_gives_what_our_own_client_gets(address: str) -> None:
    printed = run(PROGRAMS[1], address)
    with Client(address) as client:
        chunks = list(client.generate("ROMEO:", model="shakespeare", max_new_tokens=40, temperature=0.8, seed=7))
    assert printed == f"{''.join(chunk.text for chunk in chunks)} LENGTH 40\n"
