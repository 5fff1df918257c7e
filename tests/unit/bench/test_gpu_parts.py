"""What the check on a GPU holds to be wrong, and how it counts what a step launches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman_server.device import Device
from tests.gpu.alternating import by_turns
from tests.gpu.attention import attention
from tests.gpu.correctness import independence, parity
from tests.gpu.launches import idle_share, nodes, nodes_of_last_runs
from tests.gpu.measuring import WrongResultError, require_candidates
from tests.gpu.subjects import SUBJECTS

DEVICE = Device(resident=True)
LOG_PROBS = np.array([[-1.0, -2.0, -3.0], [-1.5, -2.0, -2.0]], np.float32)
IDS = np.array([[4, 5, 6], [7, 5, 4]])


@pytest.mark.parametrize(
    ("log_probs", "ids", "why"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int64), "no log-probabilities"),
        (LOG_PROBS * np.nan, IDS, "not finite"),
        (LOG_PROBS[:, ::-1], IDS, "best first"),
        (LOG_PROBS, IDS * 0, "twice"),
        (LOG_PROBS[[0, 0]], IDS, "all rows the same"),
    ],
)
def test_candidates_that_no_step_can_give_are_found(log_probs: np.ndarray, ids: np.ndarray, why: str) -> None:
    require_candidates(IDS, LOG_PROBS)
    with pytest.raises(WrongResultError, match=why):
        require_candidates(ids, log_probs)


def test_a_decoder_is_compared_with_pytorch_and_with_itself_in_company(tmp_path: Path) -> None:
    subject = SUBJECTS["tiny-decoder"]
    subject.export(tmp_path)
    provider, found = parity(subject, tmp_path, DEVICE)
    assert provider == {"provider": "CPUExecutionProvider"}
    assert found["largest_logit_difference"] < 0.1 < found["largest_logit"]
    first, *companies = independence(subject, tmp_path, DEVICE)
    assert first["different"] > 8
    assert [next(iter(company)) for company in companies] == ["63", "1", "7", "31"]
    (launched,) = nodes(subject, tmp_path, DEVICE)
    assert launched["nodes_a_step"]["CPUExecutionProvider"] > 10
    # A processor has no kernel of attention over pages: that is told, and rows are timed.
    ways = {name: found for figure in attention(subject, tmp_path, DEVICE) for name, found in figure.items()}
    rows, *pages = ways.values()
    assert rows["8"]["tokens_per_second"] > 0
    assert rows["8"]["largest_difference"] == 0
    assert len(pages) == 3
    assert all("PagedAttention" in way["error"] for way in pages)
    (tmp_path / subject.name / "decoder.onnx").write_bytes(b"")
    with pytest.raises(Exception, match=r"decoder\.onnx"):
        list(attention(subject, tmp_path, DEVICE))


def test_sides_take_turns_and_one_that_fails_is_told() -> None:
    turns = []

    def side(name: str, tokens: list[int]) -> list[list[int]]:
        turns.append(name)
        return [tokens]

    def out_of_memory() -> list[list[int]]:
        raise ValueError("no room")

    sides = {"ours": lambda: side("a", [1, 2]), "b": lambda: side("b", [1, 3]), "c": out_of_memory}
    found = by_turns(sides)
    assert turns[:4] == ["a", "b", "a", "b"]
    assert found["c"] == {"error": "no room"}
    assert found["b"]["same_tokens"] == 0.5
    assert len(found["b"]["ratios"]) == 5
    assert min(found["b"]["ratios"]) <= found["b"]["ratio"] <= max(found["b"]["ratios"])


def test_nodes_are_those_of_the_last_runs() -> None:
    runs: list[dict[str, Any]] = [{"cat": "Session", "name": "model_run", "ts": ts} for ts in (10, 20, 30)]
    node = {"cat": "Node", "name": "MatMul_kernel_time", "dur": 4, "args": {"provider": "CUDA"}}
    events = [*runs, *({**node, "ts": ts} for ts in (11, 12, 13, 21, 31))]
    assert nodes_of_last_runs(events, 2) == {"nodes_a_step": {"CUDA": 1.0}, "seconds_of_launching": 4e-6}


def test_idle_is_what_no_kernel_covers() -> None:
    assert idle_share([]) is None
    assert idle_share([(10, 20), (15, 30)]) == 0
    assert idle_share([(30, 40), (0, 10), (0, 5)]) == pytest.approx(0.5)
