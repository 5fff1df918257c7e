"""What is not used goes back to the system: in processes of their own, whose heaps are nobody else's."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest

from dragoman_server.lanes import EngineState
from dragoman_server.memory_return import give_back
from dragoman_server.model_host import ModelHost
from tests.unit.server.test_catalogue import TAG, host

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's malloc")

HOLES = """
import asyncio, ctypes, sys
from dragoman_server.machine import heap, resident_memory
from dragoman_server.memory_return import HeapTrimming

library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def holes():
    # 48 MiB in blocks, every fortieth of which stays: what is freed lies between what is not.
    blocks = [library.malloc(65536) for _ in range(768)]
    for block in blocks:
        ctypes.memset(block, 1, 65536)
    for number, block in enumerate(blocks):
        if number % 40:
            library.free(block)

async def main():
    trimming = HeapTrimming(lambda: sys.argv[1] == "idle", seconds=0.01)
    if sys.argv[1] != "never":
        trimming.start()
    await asyncio.sleep(0.2)
    before = resident_memory()
    holes()
    await asyncio.sleep(0.5)
    await trimming.stop()
    await trimming.stop()
    print(resident_memory() - before)

asyncio.run(main())
"""

END = """
import ctypes, threading
from dragoman_server.machine import resident_memory
from dragoman_server.heap import bound_heap, trim

bound_heap()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def load_and_go():
    large = library.malloc(30 << 20)  # what is freed once raises glibc's own bounds
    library.free(large)
    blocks = [library.malloc(100_000) for _ in range(400)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    for block in blocks:
        library.free(block)

threading.Thread(target=print).start()
before = resident_memory()
thread = threading.Thread(target=load_and_go)
thread.start()
thread.join()
trim()
print(resident_memory() - before)
"""


GOING = """
import contextlib, ctypes, sys, threading
from dragoman_server.machine import resident_memory
from dragoman_server.heap import bound_heap, ends_going_back, trim

bound_heap()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def load_and_go():
    blocks = [library.malloc(100_000) for _ in range(70)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    with ends_going_back() if sys.argv[1] == "going" else contextlib.nullcontext():
        for block in blocks:
            library.free(block)

threading.Thread(target=print).start()
before = resident_memory()
thread = threading.Thread(target=load_and_go)
thread.start()
thread.join()
trim()
print(resident_memory() - before)
"""


def printed(script: str, *arguments: str, **environment: str) -> int:
    """What the script prints last, in MiB."""
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return int(run.stdout.split()[-1]) >> 20


@GLIBC
def test_holes_in_the_heap_go_back_when_nobody_is_inside() -> None:
    assert printed(HOLES, "never") >= 40  # so there is something to give back
    assert printed(HOLES, "idle") <= 8


@GLIBC
def test_under_load_smaller_holes_stay_for_the_next_step() -> None:
    assert printed(HOLES, "busy") >= 40


@GLIBC
def test_the_end_of_a_threads_heap_is_bounded() -> None:
    theirs = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
    assert printed(END, **theirs) >= 20  # what the environment says holds, and shows what is bounded
    assert printed(END) <= 12


class Knot:
    """An engine whose lanes know it: freed by the collection of garbage alone."""

    def __init__(self) -> None:
        self.lanes = [self]

    def start(self) -> None: ...

    def state(self) -> EngineState:
        raise AssertionError

    def stop(self, grace: float) -> None: ...


async def test_what_a_call_holds_for_a_moment_more_is_given_back_after_that() -> None:
    gc.collect()
    gc.disable()  # it may be long until the next time
    try:
        held: list[ModelHost] = [replace(host("a", TAG), engine=Knot())]
        gone, parts = weakref.ref(held[0]), [weakref.ref(held[0].engine)]
        returning = asyncio.create_task(give_back(gone, parts))
        await asyncio.sleep(1.0)
        assert not returning.done()
        gc.collect()  # while it is held, which makes it old
        held.clear()
        await asyncio.wait_for(returning, 30.0)
        assert gone() is None
        assert parts[0]() is None
    finally:
        gc.enable()


@GLIBC
def test_the_end_of_a_threads_heap_goes_back_with_a_model() -> None:
    # Which heap a thread gets is up to glibc: the first one, which ends with the process's, shows nothing.
    assert any(printed(GOING, "staying") >= 5 for _ in range(8))
    assert printed(GOING, "going") <= 2
