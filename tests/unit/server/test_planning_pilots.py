"""Pilots become those that a profile takes, whatever was measured."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.planning.pilots import ascending
from dragoman_server.planning.profile import Pilot
from tests.unit.server.profiles import translating

_STRETCHES = st.floats(0.1, 10)
_PILOTS = st.lists(st.builds(Pilot, st.floats(0, 1.2), *[_STRETCHES] * 4), min_size=1, max_size=9)


@given(_PILOTS)
def test_every_measurement_makes_a_profile(pilots: list[Pilot]) -> None:
    found = ascending(pilots)
    assert all(one.utilisation < other.utilisation for one, other in pairwise(found))
    assert translating(pilots=found).pilots == found
    for place in range(len(Pilot._fields)):
        values = [pilot[place] for pilot in pilots]
        # The mean of one value may be off by its last digit.
        assert all(min(values) * (1 - 1e-12) <= pilot[place] <= max(values) * (1 + 1e-12) for pilot in found)


@given(_PILOTS)
def test_what_ascends_stays_as_it_is(pilots: list[Pilot]) -> None:
    ordered = tuple({pilot.utilisation: pilot for pilot in sorted(pilots)}.values())
    assert ascending(ordered) == ordered


def test_those_that_do_not_ascend_become_their_mean() -> None:
    pilots = [Pilot(use, stretch, 1.0, 1.0, 1.0) for use, stretch in ((0.25, 1), (0.75, 2), (0.5, 4), (0.875, 1))]
    assert ascending(pilots) == (pilots[0], Pilot(0.625, 3.0, 1.0, 1.0, 1.0), pilots[3])
    assert ascending(reversed(pilots)) == (Pilot(0.59375, 2.0, 1.0, 1.0, 1.0),)
