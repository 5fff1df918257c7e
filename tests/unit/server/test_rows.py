import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.rows import Move, RowTable


@given(capacity=st.integers(1, 12), choices=st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=80))
def test_live_rows_are_a_prefix_and_every_owner_keeps_its_content(
    capacity: int, choices: list[tuple[bool, int]]
) -> None:
    table = RowTable(capacity)
    content: list[int | None] = [None] * capacity
    owners: dict[int, int] = {}  # what an owner wrote -> the row that it believes to have
    for number, (join, pick) in enumerate(choices):
        if join and table.free_rows:
            row = table.allocate()
            assert content[row] is None
            content[row], owners[number] = number, row
        elif not join and owners:
            leaver = sorted(owners)[pick % len(owners)]
            row = owners.pop(leaver)
            content[row] = None
            move = table.free(row)
            if move is not None:
                moved = content[move.source]
                assert moved is not None
                content[move.target], content[move.source], owners[moved] = moved, None, move.target
        assert table.used == len(owners)
        assert table.used + table.free_rows == capacity
        assert all(entry is not None for entry in content[: table.used])
        assert all(entry is None for entry in content[table.used :])
        assert all(content[row] == owner for owner, row in owners.items())


def test_the_last_row_fills_the_hole_and_leaving_last_moves_nothing() -> None:
    table = RowTable(4)
    assert [table.allocate() for _ in range(3)] == [0, 1, 2]
    assert table.free(0) == Move(source=2, target=0)
    assert table.free(1) is None
    assert table.used == 1
    table.clear()
    assert table.free_rows == 4


def test_misuse_is_a_bug() -> None:
    table = RowTable(1)
    with pytest.raises(AssertionError, match="not live"):
        table.free(0)
    table.allocate()
    with pytest.raises(AssertionError, match="no free row"):
        table.allocate()
    with pytest.raises(ValueError, match="capacity = 0"):
        RowTable(0)
