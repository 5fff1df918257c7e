"""Attention over a row's own memory (GroupQueryAttention, as served) against attention over pages (PagedAttention).

With pages, rows may read the same blocks (a prefix that they share), a beam that forks copies a table's entries and one
block rather than all that a row holds, and a row that ends leaves no hole. What that is worth depends on what a step
over pages costs; that is what is timed here, each with and without CUDA graphs, captured for each number of rows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.device import Device
from dragoman_server.device_memory import DeviceMemory
from dragoman_server.row_memory import Binding, Part
from dragoman_server.sessions import lane_session
from tests.gpu.correctness import LARGEST_DIFFERENCE
from tests.gpu.measuring import ROUNDS, STEPS, Findings, WrongResultError, ladder, require_candidates
from tests.gpu.paged_graph import Pages, paged_graph
from tests.gpu.subjects import LONGEST, Subject

_PREFIX = 64
"""Tokens that all rows begin with."""
_CAPTURED = ", CUDA graphs"


@dataclass(frozen=True)
class Way:
    """One way to attend."""

    name: str
    block: int | None = None
    """Positions of a page; None: a row's memory is its own. Flash attention takes 128 and more where heads are as wide
    as the subject's; below, other kernels read the pages."""
    shared: bool = False
    """Whether all rows read the same blocks of the prefix."""


WAYS = (
    Way("rows"),
    Way("pages of 128", 128),
    Way("pages of 16", 16),
    Way("pages of 16, shared prefix", 16, shared=True),
)


def attention(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Seconds of a step after a prefix by way and rows, and how far scores are from the first way's.

    A way that fails is reported with its reason, and the others go on.
    """
    scores: dict[int, Any] = {}
    captures = (False, True) if device.kind == "cuda" else (False,)
    for way in WAYS:
        names = [f"{way.name}{_CAPTURED * captured}" for captured in captures]
        found: dict[str, Findings] = {name: {} for name in names}
        try:
            for captured, rows, one in _timed(subject, folder, replace(device, cuda_graphs=captures[-1]), way, scores):
                name = names[captured]
                found[name][str(rows)] = one
                yield {name: found[name]}
        except Exception as error:  # onnxruntime raises many types that share no base of their own
            name = next(name for name in names if len(found[name]) < len(ladder(device)))
            yield {name: found[name] | {"error": str(error)[:300]}}
            if way is WAYS[0]:
                raise


def _timed(
    subject: Subject, folder: Path, device: Device, way: Way, scores: dict[int, Any]
) -> Iterator[tuple[bool, int, Findings]]:
    """Whether captured, rows, what was found. ``scores`` are those of the first way, which fills them in."""
    pages = None if way.block is None else Pages(way.block, LONGEST)
    session = lane_session(_graph(subject, folder, pages), device, captured=True)
    # One memory for all: it numbers what is captured, and a session knows what it has captured by its number.
    memory = DeviceMemory(device)
    for captured in (False, True) if device.cuda_graphs else (False,):
        for rows in ladder(device):
            steps = _Steps(subject, session, memory, rows, pages, shared=way.shared, captured=captured)
            seconds = steps.run()
            require_candidates(steps.ids, steps.scores)
            first = scores.setdefault(rows, steps.scores.copy())
            difference = float(np.abs(first - steps.scores).max())
            if not difference <= LARGEST_DIFFERENCE:
                raise WrongResultError(f"{rows} rows: scores are {difference:.3g} from those of {WAYS[0].name}")
            found = {"seconds": seconds, "tokens_per_second": rows / seconds, "largest_difference": difference}
            yield captured, rows, found


def _graph(subject: Subject, folder: Path, pages: Pages | None) -> Path:
    whole = subject.graphs(folder).decoder
    if pages is None:
        return whole
    graph = folder / f"{subject.name}-pages-{pages.block}.onnx"
    if not graph.exists():
        beside = graph.with_suffix(".part")
        paged_graph(whole, beside, pages)
        beside.replace(graph)
    return graph


class _Steps:
    """A number of rows, what they are fed, and a graph bound to their memory."""

    def __init__(
        self,
        subject: Subject,
        session: Any,
        memory: DeviceMemory,
        rows: int,
        pages: Pages | None,
        *,
        shared: bool,
        captured: bool,
    ) -> None:
        config, top_k = subject.config, subject.dimensions.top_k
        self._tokens: npt.NDArray[np.int64] = np.random.default_rng(rows).integers(
            6, config.vocabulary, (_PREFIX + STEPS, rows, 1)
        )
        self._tokens[:_PREFIX] = self._tokens[:_PREFIX, :1]
        self._fed, self._lengths = np.zeros((rows, 1), np.int64), np.zeros(rows, np.int32)
        self.scores, self.ids = np.zeros((rows, top_k), np.float32), np.zeros((rows, top_k), np.int64)
        inputs: dict[str, npt.NDArray[Any]] = {"input_ids": self._fed, "lengths": self._lengths}
        caches = 2 * config.decoder_layers
        shape = (caches, rows, config.num_heads, LONGEST, config.head_dim)
        if pages is None:
            inputs["total_length"] = np.array(LONGEST, np.int32)
        else:
            inputs["block_table"] = pages.table(rows, _PREFIX // pages.block if shared else 0)
            inputs["steps"] = np.arange(rows + 1, dtype=np.int32)
            shape = (caches, rows * pages.of_row, pages.block, config.num_heads, config.head_dim)
        self._caches = whole = memory.caches(shape, "float16")  # bound by its address
        names = [f"{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("key", "value")]
        parts = [Part(f"past_{name}", f"present_{name}", whole, number) for number, name in enumerate(names)]
        outputs: dict[str, npt.NDArray[Any]] = {"top_log_probs": self.scores, "top_ids": self.ids}
        self._binding: Binding = memory.bind(session, shape[1], inputs, parts, outputs, steady=captured)

    def run(self) -> float:
        """Seconds of one of the steps after the prefix, the way to the host and back included; median of rounds."""
        self._run(0, _PREFIX)
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            self._run(_PREFIX, _PREFIX + STEPS)
            rounds.append((time.perf_counter() - began) / STEPS)
        return statistics.median(rounds)

    def _run(self, begin: int, end: int) -> None:
        for length in range(begin, end):
            self._fed[...], self._lengths[:] = self._tokens[length], length
            self._binding.run()
