from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.request import Request
from dragoman_server.row_changes import Relocation, RowChanges, settle
from dragoman_server.rows import Move, Moves, RowTable

CAPACITY = 12


class Content:
    """What stands in the rows; carries out copies as the runtime does, all of a list at one time."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = [()] * CAPACITY

    def copy(self, moves: Sequence[Move]) -> None:
        assert not {move.source for move in moves} & {move.target for move in moves}
        assert len({move.target for move in moves}) == len(moves)
        for source, target, kept in moves:
            # Position 0 is begin-of-sentence's.
            assert self.rows[source][: max(0, kept - 1)] == self.rows[target][: max(0, kept - 1)]
            self.rows[target] = self.rows[source]


def relocate(
    requests: dict[Request, tuple[int, list[int]]], content: Content, change: tuple[list[Moves], Relocation | None]
) -> None:
    """Carry the copies out, and find out where everybody is."""
    copies, moved = change
    for moves in copies:
        content.copy(moves)
    if moved is not None:
        places = moved.places(2 * CAPACITY)
        for owner, (width, live) in requests.items():
            requests[owner] = width, places[live].tolist()


def request(options: DecodingOptions = DecodingOptions(max_length=9)) -> Request:  # noqa: B008  (frozen)
    return Request([4, 5, 3], options, lambda outcome: None)


@given(data=st.data())
def test_live_rows_are_a_prefix_and_every_hypothesis_keeps_its_content(data: st.DataObject) -> None:
    """Requests join with one row, widen, narrow and end at random, many in one step."""
    rows, table, content = RowTable(CAPACITY), HypothesisTable(CAPACITY, 20, 5), Content()
    requests: dict[Request, tuple[int, list[int]]] = {}  # width, rows
    for step in range(data.draw(st.integers(1, 15))):
        free = CAPACITY - sum(width for width, _ in requests.values())
        while free and data.draw(st.booleans()):
            owner, row, width = request(), rows.allocate(), data.draw(st.integers(1, free))
            table.start(row, owner, 2, 0)
            content.rows[row] = ()
            requests[owner] = width, [row]
            free -= width
        changes = RowChanges(table)
        children: dict[Request, list[tuple[int, tuple[int, ...]]]] = {}
        for owner, (width, live) in requests.items():
            parents = data.draw(st.lists(st.sampled_from(live), max_size=width))
            left = [row for row in live if row not in parents]
            taken: set[int] = set()
            placed, replaced = [], []
            for parent in parents:
                if parent not in taken:
                    row = parent
                elif left:
                    row = left.pop()
                    replaced.append((parent, row))
                else:
                    row = changes.fork(parent)
                taken.add(parent)
                placed.append((row, content.rows[parent]))
            if replaced:
                changes.replace(*np.array(replaced).T)
            changes.free(left)
            children[owner] = placed
            requests[owner] = width, [row for row, _ in placed]
        requests = {owner: held for owner, held in requests.items() if held[1]}
        relocate(requests, content, changes.apply(rows))
        free = CAPACITY - sum(width for width, _ in requests.values())
        if free and data.draw(st.booleans()):  # somebody joins while rows are free between others
            newcomer, row = request(), rows.allocate()
            table.start(row, newcomer, 2, 0)
            content.rows[row] = ()
            requests[newcomer], children[newcomer] = (1, [row]), [(row, ())]
        assert rows.used + rows.free_rows == CAPACITY
        assert rows.used <= rows.end
        relocate(requests, content, settle(rows, table))
        assert rows.settled
        for owner, (_, live) in requests.items():
            for row, (_, expected) in zip(live, children[owner], strict=True):
                assert tuple(table.token_ids(row)) == content.rows[row] == expected
                assert table.owners[row] is owner
        assert sorted(row for _, live in requests.values() for row in live) == list(range(rows.used))
        assert all(owner is None for owner in table.owners[rows.used :])
        ids = np.arange(CAPACITY) + 100 * step  # everybody grows by a token of its own
        table.next_ids[:CAPACITY] = ids
        table.append(rows.used)
        for row in range(rows.used):
            content.rows[row] = (*content.rows[row], int(ids[row]))


def test_the_last_row_fills_the_hole_and_leaving_last_moves_nothing() -> None:
    table = RowTable(4)
    assert [table.allocate() for _ in range(3)] == [0, 1, 2]
    table.free([0])
    assert (table.used, table.end, table.settled) == (2, 3, False)
    assert table.settle() == ([2], [0])
    assert (table.used, table.end, table.settled) == (2, 2, True)
    table.free([1])
    assert table.settle() == ([], [])
    assert table.used == 1
    table.clear()
    assert table.free_rows == 4


def test_who_joins_takes_the_rows_that_came_back() -> None:
    table = RowTable(5)
    for _ in range(4):
        table.allocate()
    table.free([2])
    table.free([0])
    assert [table.allocate() for _ in range(3)] == [0, 2, 4]
    assert table.settle() == ([], [])
    assert table.free_rows == 0


def test_a_copy_within_a_request_names_what_the_row_has_already() -> None:
    rows, table, owner = RowTable(8), HypothesisTable(8, 20, 5), request()
    for row in range(5):
        table.start(rows.allocate(), owner, 2, 0)
        table.history[row, :4], table.steps[row] = [7, 8, 9 + row, 5], 4
    changes = RowChanges(table)
    changes.replace(np.array([2]), np.array([1]))
    copies, moved = changes.apply(rows)
    assert list(map(list, copies)) == [[Move(2, 1, kept=3)]]  # begin-of-sentence's, 7's and 8's
    assert moved is None
    assert table.token_ids(1) == [7, 8, 11, 5]


def test_a_copy_within_a_request_that_had_a_prompt_keeps_that_too() -> None:
    rows, table, owner = RowTable(4), HypothesisTable(4, 20, 0), request()
    for row in range(3):
        table.start(rows.allocate(), owner, 2, 0, begin=6)
        table.history[row, :2], table.steps[row] = [7, 9 + row], 2
    changes = RowChanges(table)
    changes.replace(np.array([2]), np.array([1]))
    copies, _ = changes.apply(rows)
    assert list(map(list, copies)) == [[Move(2, 1, kept=8)]]  # the six before, the prompt's last and 7
    changes = RowChanges(table)
    assert changes.fork(1) == 4
    changes.apply(rows)
    assert table.begins[:4].tolist() == [6, 6, 6, 6]


def test_attention_moves_and_forks_with_its_row_and_a_newcomer_has_none() -> None:
    rows, table = RowTable(4), HypothesisTable(4, 20, 5)
    asking = request(DecodingOptions(max_length=9, with_attention=True, coverage_penalty=0.5))
    other = request()
    for owner in (other, asking):
        table.start(rows.allocate(), owner, 2, 0)
    # Wider than any source can be, as a graph may give it.
    table.attend(2, np.array([[9, 9, 9, 0, 0, 0, 0], [0.25, 0.5, 0.25, 0, 0, 0, 0]], np.float32))
    changes = RowChanges(table)
    assert changes.fork(1) == 4
    changes.free([0])
    _, forked = changes.apply(rows)
    assert forked is not None
    assert forked.places(8)[[1, 4]].tolist() == [1, 0]
    table.next_ids[:2] = [6, 7]
    table.append(2)
    table.attend(2, np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    assert table.covered is not None
    for row, last in enumerate(([1, 0, 0], [0, 1, 0])):
        np.testing.assert_array_equal(table.attention(row), [[0.25, 0.5, 0.25], last])
        np.testing.assert_array_equal(table.covered[row, :3], np.array([0.25, 0.5, 0.25]) + last)
    newcomer = request(DecodingOptions(max_length=9, with_attention=True))
    table.start(rows.allocate(), newcomer, 2, 0)
    table.attend(3, np.ones((3, 3), np.float32))
    np.testing.assert_array_equal(table.attention(2), [[1, 1, 1]])


def test_misuse_is_a_bug() -> None:
    table = RowTable(1)
    with pytest.raises(AssertionError, match="not live"):
        table.free([0])
    table.allocate()
    with pytest.raises(AssertionError, match="no free row"):
        table.allocate()
    with pytest.raises(AssertionError, match="freed twice"):
        table.free([0, 0])
    with pytest.raises(AssertionError, match="not live"):
        table.free([-1])
    table.free([0])
    with pytest.raises(AssertionError, match="freed twice"):
        table.free([0])
    with pytest.raises(ValueError, match="capacity = 0"):
        RowTable(0)


def test_moves_are_a_sequence_of_moves_kept_as_arrays() -> None:
    given = [Move(3, 0), Move(4, 1, kept=2)]
    moves = Moves.of(given)
    assert (list(moves), len(moves), moves[1], moves[:1]) == (given, 2, given[1], given[:1])
    assert moves.kept.tolist() == [0, 2]
    assert Moves.of(moves) is moves
    assert list(Moves.of([])) == []
    assert repr(moves) == f"Moves({given})"
