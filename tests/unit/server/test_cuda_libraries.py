"""Where the libraries of CUDA are looked for, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_server.cuda_libraries import library_names, load_libraries
from dragoman_server.device import Device, DeviceError
from dragoman_server.sessions import demand_cuda

NAMES = library_names(13)


class Linker:
    """Loads files that are there, and of the system's libraries those that are named."""

    def __init__(self, *system: str) -> None:
        self.system = system
        self.loaded: list[str] = []

    def __call__(self, place: str) -> None:
        if place not in self.system and not Path(place).is_file():
            raise OSError(f"{place}: cannot open shared object file")
        if Path(place).is_file() and not Path(place).read_text():
            raise OSError(f"{place}: file too short")
        self.loaded.append(place)


def put(site: Path, folder: str, *names: str, text: str = "a library") -> None:
    (site / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (site / folder / name).write_text(text)


def test_libraries_of_any_folder_of_packages_are_found_and_then_the_systems(tmp_path: Path) -> None:
    """onnxruntime in one folder, NVIDIA's packages in a second, cuDNN inside PyTorch in a third."""
    own, cuda, torch = tmp_path / "own", tmp_path / "cuda", tmp_path / "torch"
    put(own, "onnxruntime")
    put(cuda, "nvidia/cu13/lib", "libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13")
    put(torch, "torch/lib", "libcudnn.so.9")
    linker = Linker("libcuda.so.1", "libcurand.so.10", "libcublas.so.13")
    assert load_libraries(NAMES, ["", str(own), str(cuda), str(torch)], linker) == []
    assert linker.loaded == [
        "libcuda.so.1",
        *(str(cuda / "nvidia/cu13/lib" / name) for name in NAMES[1:4]),
        "libcurand.so.10",
        str(torch / "torch/lib/libcudnn.so.9"),
    ]


def test_a_file_that_cannot_be_loaded_is_not_the_end_of_the_search(tmp_path: Path) -> None:
    put(tmp_path, "nvidia/cudnn/lib", "libcudnn.so.9", text="")
    assert load_libraries(["libcudnn.so.9"], [str(tmp_path)], Linker("libcudnn.so.9")) == []
    assert load_libraries(["libcudnn.so.9"], [str(tmp_path)], Linker()) == ["libcudnn.so.9"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    everything_but = Linker(*NAMES[:-1])
    assert load_libraries(NAMES, [str(tmp_path)], everything_but) == ["libcudnn.so.9"]
    gpu = Device("cuda", resident=True)
    demand_cuda(gpu, lambda: [])
    with pytest.raises(DeviceError, match=r"device = cuda:0: libcudnn\.so\.9 cannot be loaded: .* cuDNN 9"):
        demand_cuda(gpu, lambda: ["libcudnn.so.9"])
