"""A library keeps its code for one architecture, where it is, and only where there is some."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from tests.gpu.slim_wheel import fat_binaries, main, slimmed

PTX, ELF = 1, 2


def fat_binary(*entries: tuple[int, int]) -> bytes:
    code = b"".join(
        struct.pack("<HHIQ12xI32x", kind, 1, 64, 16, architecture) + bytes([architecture]) * 16
        for kind, architecture in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(code)) + code


def test_code_for_other_architectures_becomes_zeros() -> None:
    both = fat_binary((ELF, 80), (ELF, 90), (PTX, 100))
    only_older = fat_binary((ELF, 80), (PTX, 90))
    looks_like_one = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 80) + b"x" * 80
    library = b"start" + both + only_older + looks_like_one + both
    slim = slimmed(library, 90)
    assert len(slim) == len(library)
    expected = both.replace(bytes([80]) * 16, bytes(16)).replace(bytes([100]) * 16, bytes(16))
    assert slim == b"start" + expected + only_older + looks_like_one + expected
    assert [len(entries) for entries in fat_binaries(slim)] == [3, 2, 3]


def test_other_files_of_a_wheel_stay_as_they_are(tmp_path: Path) -> None:
    wheel, target = tmp_path / "a.whl", tmp_path / "b.whl"
    library = fat_binary((ELF, 80), (ELF, 90))
    with zipfile.ZipFile(wheel, "w") as written:
        written.writestr("a/providers_cuda.so", library)
        written.writestr("a/other.so", library)
        written.writestr("a/libonnxruntime.so.1", library)
    main(str(wheel), "90", str(target))
    with zipfile.ZipFile(target) as slim:
        assert slim.namelist() == ["a/providers_cuda.so", "a/other.so"]
        assert slim.read("a/providers_cuda.so") == slimmed(library, 90)
        assert slim.read("a/other.so") == library
