"""Arrays in huge pages: what the system is asked for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from dragoman_server.huge_pages import zeros


def mapping(address: int) -> list[str]:
    """The lines of /proc/self/smaps on the memory there."""
    found: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(span[1], 16) <= address < int(span[2], 16)
        if inside:
            found.append(line)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_memory_is_of_a_kind_that_can_have_huge_pages() -> None:
    """Shared memory has them only where the system says so apart, and by default it does not."""
    array = zeros((3, 1 << 20), np.dtype(np.int16))
    assert not array.any()
    head, *lines = mapping(array.ctypes.data)
    assert head.split()[1] == "rw-p"
    flags = next(line for line in lines if line.startswith("VmFlags:")).split()
    assert "hg" in flags
    assert array.ctypes.data % (2 << 20) == 0
