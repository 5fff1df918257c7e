"""Which device is taken, and what is said where it is not the one that was asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog.testing

from dragoman_server import doctor
from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.compiled_kernels import chosen_library, library_for
from dragoman_server.device import CPU, CPU_PROVIDER, CUDA_PROVIDER, Device, DeviceError
from dragoman_server.device_choice import Surroundings, choose_device, probe, settings_for
from dragoman_server.device_memory import DeviceCaches, DeviceMemory
from dragoman_server.doctor import Verdict
from dragoman_server.gpu_memory import WORKING, fitted
from dragoman_server.gpus import Gpu, gpus
from dragoman_server.memory_budget import MemoryShort, memory_need
from dragoman_server.row_memory import Ints
from dragoman_server.settings import Settings, SettingsError
from tests.unit.server import tiny_decoder

GPU = Device("cuda", resident=True)
BOTH = (CUDA_PROVIDER, CPU_PROVIDER)


def around(providers: Sequence[str] = BOTH, fault: str = "", *, has_gpu: bool = True) -> Surroundings:
    def run(device: Device) -> None:
        assert device.kind == "cuda"
        if fault:
            raise DeviceError(fault)

    return Surroundings(lambda: providers, run, lambda: has_gpu)


def settings(**given: object) -> Settings:
    return Settings(**({"precision": "fp16"} | given))  # type: ignore[arg-type]


def test_cuda_is_taken_where_it_works_and_auto_does_the_same() -> None:
    for asked in ("cuda", "auto"):
        assert choose_device(settings(device=asked), around()) == GPU
        captured = choose_device(settings(device=asked, cuda_graphs=True), around())
        assert captured.cuda_graphs
    assert choose_device(settings(device="cpu"), around()) == CPU


def test_cuda_that_cannot_be_used_is_refused_with_every_reason() -> None:
    with pytest.raises(SettingsError) as raised:
        choose_device(settings(device="cuda", precision="int8"), around([CPU_PROVIDER]))
    first, second = raised.value.violations
    assert (first.field, first.value) == ("precision", "int8")
    assert "fp16" in first.limit
    assert second.field == "device"
    assert "CUDAExecutionProvider is missing: onnxruntime offers CPUExecutionProvider" in second.limit
    with pytest.raises(SettingsError, match="no kernel image"):
        choose_device(settings(device="cuda"), around(fault="device = cuda:0: no kernel image"))


@pytest.mark.parametrize(
    ("given", "surroundings"),
    [
        ({}, around([CPU_PROVIDER])),
        ({}, around(fault="device = cuda:0: out of memory")),
        ({"precision": "int8"}, around()),
    ],
)
def test_auto_warns_of_a_gpu_that_it_does_not_use(given: dict[str, str], surroundings: Surroundings) -> None:
    with structlog.testing.capture_logs() as logs:
        assert choose_device(settings(device="auto", **given), surroundings) == CPU
    (log,) = logs
    assert log["log_level"] == "warning"
    assert " = " in log["reasons"]


def test_auto_says_nothing_on_a_machine_without_a_gpu() -> None:
    with structlog.testing.capture_logs() as logs:
        assert choose_device(settings(device="auto"), around([CPU_PROVIDER], has_gpu=False)) == CPU
    assert not logs


def test_compiled_operators_are_the_processors() -> None:
    with pytest.raises(SettingsError, match=r"kernels = compiled: auto or builtin on a GPU"):
        choose_device(settings(device="cuda", kernels="compiled"), around())
    with structlog.testing.capture_logs() as logs:
        assert choose_device(settings(device="auto", kernels="compiled"), around()) == CPU
    assert [log["log_level"] for log in logs] == ["warning"]
    assert library_for("auto", GPU) is None
    assert library_for("auto", CPU) == chosen_library("auto")


def test_a_gpu_has_one_lane_unless_somebody_says_otherwise() -> None:
    assert settings_for(settings(), GPU).lanes == 1
    assert settings_for(settings(lanes=3), GPU).lanes == 3
    assert settings_for(settings(), CPU) == settings()


def test_a_device_that_works_passes_its_probe() -> None:
    probe(Device(resident=True))


class Idle(DeviceCaches):
    """Of a device whose kernels compute nothing."""

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """Leaves the targets as they are."""


class IdleMemory(DeviceMemory):
    """A device's memory with such caches."""

    def caches(self, shape: tuple[int, int, int, int, int], element: str) -> DeviceCaches:
        """As ``RowMemory`` says."""
        return Idle(self._device, self._mover(shape[-1], element), shape, element)


def test_a_device_that_computes_nothing_does_not_pass() -> None:
    with pytest.raises(DeviceError, match="device = cpu: numbers that were copied there came back as others"):
        probe(Device(resident=True), IdleMemory)


def test_what_a_session_on_a_gpu_is_made_with() -> None:
    (name, options), (last, _) = Device("cuda", 1, resident=True, cuda_graphs=True, arena_bytes=99).providers(
        captured=True
    )
    assert (name, last) == BOTH
    assert options["device_id"] == "1"
    assert options["gpu_mem_limit"] == "99"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["enable_cuda_graph"] == "1"
    assert "enable_cuda_graph" not in GPU.providers(captured=True)[0][1]
    assert "enable_cuda_graph" not in Device("cuda", resident=True, cuda_graphs=True).providers()[0][1]
    with pytest.raises(ValueError, match="resident"):
        Device("cuda")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny_decoder.write_bundle(tmp_path_factory.mktemp("models") / "1"), "fp32")


def test_rows_are_as_many_as_fit_beside_the_reserve(bundle: LoadedBundle) -> None:
    """Free memory for exactly seven rows on each of two lanes, and a byte less for six."""
    asked = settings(max_rows=100, lanes=2, gpu_reserve=0.25)
    need = memory_need(bundle, lanes=2, max_rows=7)
    total = 1 << 34
    free = 2 * (need.weights + need.caches + WORKING) + total // 4

    def rows(free: int) -> int:
        with structlog.testing.capture_logs() as logs:
            given, device = fitted(bundle, asked, GPU, lambda: [Gpu("any", "1", total, free)])
        assert device.arena_bytes == need.weights + WORKING
        assert bool(logs) == (given.max_rows < 100)
        return given.max_rows

    assert rows(free) == 7
    assert rows(free - 1) == 6
    assert rows(total) == 100
    with pytest.raises(MemoryShort, match=r"not enough memory on cuda:0: .* in reserve"):
        rows(total // 4)


def test_nobody_knows_the_memory_of_a_gpu_that_is_not_listed(bundle: LoadedBundle) -> None:
    given, device = fitted(bundle, settings(max_rows=9), GPU, list)
    assert given.max_rows == 9
    assert device.arena_bytes


def test_caches_of_a_device_are_not_of_the_hosts_memory(bundle: LoadedBundle) -> None:
    there, here = (memory_need(bundle, lanes=1, max_rows=4, resident=resident) for resident in (True, False))
    assert there.caches == 4 * bundle.manifest.dimensions.vocabulary * 4  # the logits that the host may read
    assert here.caches > there.caches


class Nvml:
    """The library's calls, on GPUs of our own; ``broken`` names one that fails."""

    def __init__(self, memory: Sequence[tuple[int, int]], broken: str = "") -> None:
        self.memory, self.broken, self.closed = memory, broken, 0
        self._calls: dict[str, Callable[..., int]] = {
            "nvmlInit_v2": self._open,
            "nvmlShutdown": self._close,
            "nvmlDeviceGetCount_v2": self._count,
            "nvmlSystemGetDriverVersion": self._driver,
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlDeviceGetName": self._name,
            "nvmlDeviceGetMemoryInfo": self._memory,
        }

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 9 if name == self.broken else self._calls[name](*arguments)

    def _open(self) -> int:
        return 0

    def _close(self) -> int:
        self.closed += 1
        return 0

    def _count(self, count: Any) -> int:
        count._obj.value = len(self.memory)
        return 0

    def _driver(self, buffer: Any, size: ctypes.c_uint) -> int:
        assert size.value >= 80
        buffer.value = b"570.1"
        return 0

    def _handle(self, number: ctypes.c_uint, handle: Any) -> int:
        handle._obj.value = number.value + 1
        return 0

    def _name(self, handle: ctypes.c_void_p, buffer: Any, size: ctypes.c_uint) -> int:
        buffer.value = f"GPU of {handle.value}".encode()
        return 0

    def _memory(self, handle: ctypes.c_void_p, memory: Any) -> int:
        assert handle.value
        memory._obj.total, memory._obj.free = self.memory[handle.value - 1]
        return 0


def test_gpus_are_listed_with_their_memory() -> None:
    library = Nvml([(10, 9), (20, 5)])
    first, second = Gpu("GPU of 1", "570.1", 10, 9), Gpu("GPU of 2", "570.1", 20, 5)
    assert gpus(lambda name: library, {}) == [first, second]
    assert library.closed == 1
    for visible, expected in (("1", [second]), ("1, 0", [second, first]), ("", []), ("GPU-0a1b", []), ("7", [])):
        assert gpus(lambda name: library, {"CUDA_VISIBLE_DEVICES": visible}) == expected


@pytest.mark.parametrize("broken", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetMemoryInfo"])
def test_a_driver_that_does_not_answer_has_no_gpus(broken: str) -> None:
    assert gpus(lambda name: Nvml([(10, 9)], broken), {}) == []


def test_a_machine_without_the_library_has_no_gpus() -> None:
    def load(name: str) -> Any:
        raise OSError(name)

    assert gpus(load, {}) == []


def test_the_doctor_lists_gpus_and_tries_the_first() -> None:
    found = [Gpu("H200", "570.1", 100 << 30, 90 << 30)]

    def fails() -> None:
        raise DeviceError("device = cuda:0: cuDNN is missing")

    listed, tried = doctor.graphics(found, lambda: True, lambda: None)
    assert "H200, driver 570.1, 90.0 of 100.0 GiB free" in listed.found
    assert (listed.verdict, tried.verdict) == (Verdict.OK, Verdict.OK)
    *_, tried = doctor.graphics(found, lambda: True, fails)
    assert (tried.verdict, tried.found) == (Verdict.FAIL, "device = cuda:0: cuDNN is missing")
    assert len(doctor.graphics(found, lambda: False, fails)) == 1
    assert doctor.graphics([], lambda: True, fails) == []
