"""What a machine has that figures depend on: versions, the card, the libraries that were loaded."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import onnxruntime as ort
import torch

from dragoman_server.device import CUDA_PROVIDER, Device
from dragoman_server.device_choice import probe
from dragoman_server.gpus import gpus
from tests.gpu.launching import Findings
from tests.gpu.measuring import median
from tests.gpu.subjects import Subject, torch_device

_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "torch", "transformers", "ctranslate2", "onnx", "onnxscript", "numpy")
_LIBRARIES = ("libcuda.", "libcudart", "libcublas", "libcudnn", "libonnxruntime_providers_cuda")


def machine(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Versions, the card, whether onnxruntime computes on it, and how fast it copies."""
    found = {name: _version(name) for name in _PACKAGES}
    found |= {"python": platform.python_version(), "onnxruntime, imported": ort.__version__}
    yield {"versions": found, "providers": ort.get_available_providers()}
    yield {"gpus": [f"{gpu.name}, driver {gpu.driver}, {gpu.total >> 20} MiB" for gpu in gpus()]}
    if device.kind == "cuda" and CUDA_PROVIDER not in ort.get_available_providers():
        raise RuntimeError(f"{CUDA_PROVIDER} is missing: onnxruntime {ort.__version__} is {ort.__file__}")
    probe(device)
    yield {"libraries": _libraries(), "cuda of torch": str(torch.version.cuda), "loaded": _loaded()}
    yield {"bytes_per_second": _bandwidth(torch_device() if device.kind == "cuda" else "cpu")}


def _bandwidth(kind: str) -> float:
    """Bytes read and written a second by a copy within a memory: the ceiling of a decoder's step."""
    size = 4 << 30 if kind == "cuda" else 64 << 20
    source = torch.ones(size // 2, dtype=torch.float16, device=kind)
    target = torch.empty_like(source)
    return 2 * size / median(lambda: target.copy_(source), 10)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _libraries() -> dict[str, str]:
    """Versions as the loaded libraries themselves give them; of those that are there."""
    asked = {
        "CUDA runtime": ("libcudart.so.13", "cudaRuntimeGetVersion"),
        "CUDA of the driver": ("libcudart.so.13", "cudaDriverGetVersion"),
    }
    found = {}
    for name, (library, function) in asked.items():
        number = ctypes.c_int()
        try:
            failed = getattr(ctypes.CDLL(library), function)(ctypes.byref(number))
        except (OSError, AttributeError):
            continue
        found[name] = "unknown" if failed else f"{number.value // 1000}.{number.value % 1000 // 10}"
    try:
        number = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion()
        found["cuDNN"] = f"{number // 10000}.{number % 10000 // 100}.{number % 100}"
    except (OSError, AttributeError):
        pass
    try:
        cublas = ctypes.CDLL("libcublas.so.13")
        parts = [ctypes.c_int() for _ in range(3)]
        for kind, part in enumerate(parts):  # major, minor, patch
            cublas.cublasGetProperty(kind, ctypes.byref(part))
        found["cuBLAS"] = ".".join(str(part.value) for part in parts)
    except (OSError, AttributeError):
        pass
    return found


def _loaded() -> list[str]:
    """Files of the libraries that this process has."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    files = {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    return sorted(file for file in files if Path(file).name.startswith(_LIBRARIES))
