from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.endings import Running
from dragoman_server.request import Request


def request(width: int, deadline: float | None) -> Request:
    return Request([7, 3], DecodingOptions(max_length=9, beam_size=width), lambda outcome: None, deadline=deadline)


@given(data=st.data())
def test_those_that_have_ended_are_those_that_a_look_at_each_finds(data: st.DataObject) -> None:
    """Whatever comes, goes, is cancelled before or after it came, or expires; and rows are counted."""
    running: Running[Request] = Running()
    known: list[Request] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 20))):
        now += data.draw(st.sampled_from([0.0, 0.5, 3.0]))
        if data.draw(st.booleans()):
            patience = data.draw(st.none() | st.sampled_from([-1.0, 0.0, 0.5, 4.0]))
            newcomer = request(data.draw(st.integers(1, 4)), None if patience is None else now + patience)
            if data.draw(st.booleans()):
                newcomer.cancel()
            running.add([newcomer])
            known.append(newcomer)
        if data.draw(st.booleans()) and known:
            data.draw(st.sampled_from(known)).cancel()
        if data.draw(st.booleans()):
            ended = running.ended(now)
            assert ended == [one for one in known if one.cancelled or one.expired(now)]
            if data.draw(st.booleans()):
                running.remove(ended)
                known = [one for one in known if one not in ended]
        if data.draw(st.booleans()) and known:
            leaver = data.draw(st.sampled_from(known))
            running.remove([leaver, request(1, None)])  # who is not there is passed over
            known.remove(leaver)
        assert list(running) == known
        assert (len(running), running.rows) == (len(known), sum(one.width for one in known))
    assert running.clear() == known
    assert (list(running), running.rows) == ([], 0)
