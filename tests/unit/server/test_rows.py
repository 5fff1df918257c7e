import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.hypothesis import UNPLACED, Hypothesis
from dragoman_server.row_changes import RowChanges
from dragoman_server.rows import Move, RowTable


class Content:
    """What stands in the rows; carries out copies as the runtime does, all of a list at one time."""

    def __init__(self, capacity: int) -> None:
        self.rows: list[object] = [None] * capacity

    def copy(self, moves: list[Move]) -> None:
        assert not {move.source for move in moves} & {move.target for move in moves}
        assert len({move.target for move in moves}) == len(moves)
        for move in moves:
            self.rows[move.target] = self.rows[move.source]


@given(data=st.data())
def test_live_rows_are_a_prefix_and_every_hypothesis_keeps_its_content(data: st.DataObject) -> None:
    """Requests join with one row, widen, narrow and end at random, many in one step."""
    capacity = data.draw(st.integers(1, 12))
    table, content = RowTable(capacity), Content(capacity)
    live: list[Hypothesis] = []
    requests: list[tuple[int, list[Hypothesis]]] = []  # width, hypotheses
    expected: dict[int, object] = {}
    for number in range(data.draw(st.integers(1, 15))):
        free = capacity - sum(width for width, _ in requests)
        while free and data.draw(st.booleans()):
            hypothesis = Hypothesis(table.allocate(), number, 9)
            live.append(hypothesis)
            content.rows[hypothesis.row] = expected[id(hypothesis)] = (number, hypothesis.row)
            requests.append((data.draw(st.integers(1, free)), [hypothesis]))
            free -= requests[-1][0]
        changes, remaining = RowChanges(), []
        for width, hypotheses in requests:
            parents = data.draw(st.lists(st.sampled_from(hypotheses), max_size=width))
            if not parents:
                changes.freed += [hypothesis.row for hypothesis in hypotheses]
                continue
            # At times the parent itself ends, as a first sample may.
            taken: set[int] = {hypotheses[0].row} if len(hypotheses) == 1 and data.draw(st.booleans()) else set()
            survivors = []
            for parent in parents:
                survivors.append(parent.fork() if parent.row in taken else parent)
                expected[id(survivors[-1])] = expected[id(parent)]
                taken.add(parent.row)
            changes.note(hypotheses, survivors)
            remaining.append((width, survivors))
        requests = remaining
        for moves in changes.apply(table, live):
            content.copy(moves)
        owners = [hypothesis for _, hypotheses in requests for hypothesis in hypotheses]
        assert sorted(hypothesis.row for hypothesis in owners) == list(range(table.used)) == list(range(len(live)))
        assert all(live[hypothesis.row] is hypothesis for hypothesis in owners)
        assert all(content.rows[hypothesis.row] == expected[id(hypothesis)] for hypothesis in owners)
        assert table.used + table.free_rows == capacity


def test_the_last_row_fills_the_hole_and_leaving_last_moves_nothing() -> None:
    table = RowTable(4)
    assert [table.allocate() for _ in range(3)] == [0, 1, 2]
    assert table.rearrange([0], []) == ([], [Move(source=2, target=0)])
    assert table.rearrange([1], []) == ([], [])
    assert table.used == 1
    assert table.rearrange([], [0, 0]) == ([1, 2], [])
    table.clear()
    assert table.free_rows == 4


def test_survivors_stay_and_a_copy_takes_the_row_that_its_own_request_left() -> None:
    table, live = RowTable(8), [Hypothesis(row, 2, 9) for row in range(5)]
    for _ in live:
        table.allocate()
    changes = RowChanges()
    fork = live[2].fork()
    assert fork.row == UNPLACED
    changes.note(live[1:4], [live[2], fork, live[3]])
    assert changes.apply(table, live) == [[Move(2, 1, kept=1)]]
    assert live[1] is fork
    assert [hypothesis.row for hypothesis in live] == [0, 1, 2, 3, 4]


def test_misuse_is_a_bug() -> None:
    table = RowTable(1)
    with pytest.raises(AssertionError, match="not live"):
        table.rearrange([0], [])
    table.allocate()
    with pytest.raises(AssertionError, match="no free row"):
        table.allocate()
    with pytest.raises(AssertionError, match="no free row"):
        table.rearrange([], [0])
    with pytest.raises(AssertionError, match="freed twice"):
        table.rearrange([0, 0], [])
    with pytest.raises(AssertionError, match="cannot be copied"):
        table.rearrange([0], [0])
    with pytest.raises(ValueError, match="capacity = 0"):
        RowTable(0)
