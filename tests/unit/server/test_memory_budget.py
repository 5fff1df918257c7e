from __future__ import annotations

import gc
from pathlib import Path

import pytest

from dragoman_server import machine
from dragoman_server.bundle import load_bundle
from dragoman_server.memory_budget import MemoryBudget, MemoryNeed, MemoryShort, memory_need
from dragoman_server.model_host import ModelHost
from tests.unit.server import tiny, tiny_decoder, tiny_encoder
from tests.unit.server.test_catalogue import host

MIB = 1 << 20
FIVE = MemoryNeed(weights=2 * MIB, caches=MIB // 2, working=MIB, lanes=2)


class Process:
    """A process and its machine."""

    def __init__(self, available: int | None = None, resident: int = 0) -> None:
        self.available, self.resident = available, resident

    def budget(self, limit: int | None = None) -> MemoryBudget:
        return MemoryBudget(limit, available=lambda: self.available, resident=lambda: self.resident)


def test_a_limit_is_of_the_whole_process() -> None:
    process = Process(resident=5 * MIB)
    with process.budget(10 * MIB).loading(FIVE):
        pass
    expected = (
        r"not enough memory: 2.0 MiB of weights \+ 2 lanes x \(0.5 MiB of caches \+ "
        r"1.0 MiB to compute with\) = 5.0 MiB; "
        r"the limit is 10.0 MiB, 5.1 MiB are in use$"
    )
    with pytest.raises(MemoryShort, match=expected):
        Process(resident=5 * MIB + MIB // 8).budget(10 * MIB).loading(FIVE).__enter__()


def test_the_smaller_of_machine_and_limit_counts() -> None:
    with pytest.raises(MemoryShort, match=r"the machine has 4.0 MiB available"):
        Process(available=4 * MIB).budget(100 * MIB).loading(FIVE).__enter__()
    with Process().budget().loading(FIVE):  # nobody says how much there is
        pass


def test_what_is_promised_counts_until_it_is_touched_or_its_model_has_gone() -> None:
    process = Process(available=12 * MIB, resident=MIB)
    budget = process.budget()
    first: ModelHost = host("a")
    with budget.loading(FIVE):
        with budget.loading(FIVE), pytest.raises(MemoryShort, match=r"10.0 MiB more are promised to other models"):
            budget.loading(FIVE).__enter__()
        budget.promise(first, FIVE)
    process.available, process.resident = 9 * MIB, 4 * MIB  # 3 of the 5 were touched, 2 are to come
    with budget.loading(FIVE):
        pass
    process.available = 6 * MIB
    with pytest.raises(MemoryShort, match=r"2.0 MiB more are promised"):
        budget.loading(FIVE).__enter__()
    del first
    gc.collect()
    with budget.loading(FIVE):
        pass


def test_the_need_of_each_family(tmp_path: Path) -> None:
    translator = load_bundle(tiny.write_bundle(tmp_path / "a"), "fp32")
    need = memory_need(translator, lanes=3, max_rows=4)
    positions = tiny.SOURCE_TOKENS + tiny.TARGET_TOKENS
    logits = 4 * translator.manifest.dimensions.vocabulary * 4
    assert need.caches == 2 * tiny.LAYERS * 4 * positions * tiny.D_MODEL * 4 + logits
    assert need.weights == sum(path.stat().st_size for path in translator.graphs.values())
    assert need.total == need.weights + 3 * (need.caches + need.working)
    generator = load_bundle(tiny_decoder.write_bundle(tmp_path / "b"), "fp32")
    assert memory_need(generator, lanes=1, max_rows=4).caches > 0
    reader = load_bundle(tiny_encoder.write_bundle(tmp_path / "c", "c"), "fp32")
    assert memory_need(reader, lanes=1, max_rows=4).caches == 0


def test_a_container_s_limit_counts_less_what_can_be_given_up(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert machine.available_memory(tmp_path, meminfo) == 50 << 10
    (tmp_path / "memory.current").write_text("30000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 5000\nactive_file 9\n")
    for most, expected in (("max\n", 50 << 10), ("40000\n", 15_000), ("20000\n", 0)):
        (tmp_path / "memory.max").write_text(most)
        assert machine.available_memory(tmp_path, meminfo) == expected
    assert machine.available_memory(tmp_path / "none", tmp_path / "none") is None
