"""Which parts the check has, in which order, and how long each may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.gpu.part import Part

EXPORT_SECONDS = 200.0
NO_FLASH = "ORT_ENABLE_CUDNN_FLASH_ATTENTION=0"
"""onnxruntime then reads texts without cuDNN's attention, which prepares something for each new length."""

# Seconds on a GPU of this decade with a dozen cores. Rank 0 is what the check is for.
_FIRST, _SECOND, _THIRD, _LAST = range(4)
_PLANNED: tuple[tuple[int, str, str, float, str], ...] = (
    # Rank, part, "g" where steps are CUDA graphs, seconds, a variable.
    (_FIRST, "parity", "", 40, ""),
    (_FIRST, "parity", "g", 40, ""),
    (_FIRST, "independence", "g", 50, ""),
    (_FIRST, "steps", "g", 40, ""),
    (_FIRST, "ctranslate2", "g", 75, ""),
    (_FIRST, "hugging_face", "g", 90, ""),
    (_SECOND, "attention", "", 90, ""),
    (_SECOND, "nodes", "", 25, ""),
    (_SECOND, "gaps", "g", 40, ""),
    (_THIRD, "prompts", "", 20, ""),
    (_THIRD, "prompts", "", 20, NO_FLASH),
    (_THIRD, "hugging_face_compiled", "g", 75, ""),
    (_LAST, "engine", "", 45, ""),
    (_LAST, "steps", "", 30, ""),
)
_WITHOUT_SOURCE = frozenset({"attention"})


def exports(device: str, subjects: Sequence[str]) -> list[Part]:
    """What is written for each subject before its parts are run, all side by side."""
    return [Part("export", subject, device, EXPORT_SECONDS) for subject in subjects]


def exported(folder: Path, subject: str) -> Path:
    """A file that is there when the subject is exported whole."""
    return folder / f"{subject}.exported"


def parts(device: str, subjects: Sequence[str]) -> Iterator[Part]:
    """In the order of their worth: what comes last may not be reached.

    What is most important of all subjects, in the order of these, comes before anything else of the first.
    """
    yield Part("machine", subjects[0], device, 60)
    for rank in range(_LAST + 1):
        for subject in subjects:
            for own, name, graphs, seconds, variable in _PLANNED:
                if own != rank or (name in _WITHOUT_SOURCE and "decoder" not in subject):
                    continue
                if name == "parity" and subject == subjects[0]:
                    if graphs and device == "cpu":
                        continue
                elif name == "parity" and not graphs:
                    continue  # once says whether it is the graphs that are wrong
                if device == "cpu" and (variable or (name == "steps" and not graphs)):
                    continue  # the same once more
                yield Part(name, subject, "cuda+graphs" if graphs and device == "cuda" else device, seconds, variable)
