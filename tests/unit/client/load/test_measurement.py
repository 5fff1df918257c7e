"""What samples come to: which of them count, in what, and what keeps the objectives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman import InvalidArgument
from dragoman.load.measurement import Measurement, Objectives, measure
from dragoman.load.samples import Sample, Window

WINDOW = Window(warm_up=1.0, duration=4.0)


def sample(due: float, took: float, fault: str | None = None, kind: str = "short") -> Sample:
    return Sample(kind, due=due, sent=due, ended=due + took, tokens=3, fault=fault)


def measured(samples: Sequence[Sample], objectives: Objectives = Objectives()) -> Measurement:  # noqa: B008  (frozen)
    return measure(samples, WINDOW, objectives, mode="open", offered=1.0, processors={})


def test_what_is_due_in_the_window_counts_and_what_ends_in_it_is_throughput() -> None:
    found = measured([sample(0.5, 0.1), sample(0.9, 0.3), sample(1.5, 0.2), sample(4.9, 0.4), sample(5.0, 0.1)])
    assert found.requests == 2  # due at 1.5 and 4.9
    assert found.throughput == pytest.approx(2 / 4)  # ended at 1.2 and 1.7
    assert found.tokens == pytest.approx(6 / 4)
    assert found.latency is not None
    assert found.latency.count == 2
    assert found.latency.largest == pytest.approx(400)


def test_a_day_is_the_time_that_counts() -> None:
    assert [WINDOW.phase(moment) for moment in (-1.0, 0.0, 1.0, 3.0, 5.0, 9.0)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]


def test_goodput_counts_what_is_right_and_in_time() -> None:
    samples = [sample(1.5, 0.1), sample(2.0, 0.2), sample(2.5, 0.1, "wrong-answer"), sample(3.0, 0.05, "unavailable")]
    found = measured(samples, Objectives(latency_ms=150))
    assert found.goodput == pytest.approx(1 / 4)
    assert found.kept == pytest.approx(1 / 4)
    assert not found.holds
    assert found.faults == {"unavailable": 1, "wrong-answer": 1}
    assert found.failed == 2
    assert found.throughput == pytest.approx(2 / 4)


def test_a_wrong_answer_counts_whenever_it_came() -> None:
    found = measured([sample(0.1, 0.1, "wrong-answer"), sample(2.0, 0.1), sample(2.0, 0.1, "unavailable")])
    assert (found.wrong, found.compared) == (1, 2)
    assert found.faults == {"unavailable": 1}


def test_a_stream_has_its_own_times() -> None:
    stream = Sample("stream", due=2.0, sent=2.1, first=2.3, ended=2.9, gaps=(0.1, 0.2, 0.3), tokens=4)
    assert stream.latency == pytest.approx(0.9)
    assert stream.first_token == pytest.approx(0.3)
    assert stream.token_time == pytest.approx(0.2)
    found = measured([stream, sample(2.0, 0.1)])
    assert found.first_token is not None
    assert found.gap is not None
    assert found.late is not None
    assert (found.first_token.count, found.gap.count) == (1, 3)
    assert found.first_token.p50 == pytest.approx(300)
    assert found.late.largest == pytest.approx(100)
    assert set(found.kinds) == {"stream", "short"}
    for objectives in (Objectives(first_token_ms=299), Objectives(token_ms=199), Objectives(latency_ms=899)):
        assert not objectives.kept(stream)
    assert Objectives(latency_ms=901, first_token_ms=301, token_ms=201).kept(stream)
    assert Objectives(first_token_ms=1, token_ms=1).kept(sample(2.0, 9.0))  # no stream


def test_one_token_has_no_time_between_tokens() -> None:
    assert Sample("stream", due=0, sent=0, first=0.1, ended=0.1, tokens=1).token_time is None


def test_late_sending_is_waiting() -> None:
    """A generator that was held up for a second must not hide that second."""
    held_up = Sample("short", due=2.0, sent=3.0, ended=3.01)
    found = measured([held_up])
    assert found.latency is not None
    assert found.latency.p50 == pytest.approx(1010)


def test_objectives_are_above_0_and_all_faults_are_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Objectives(latency_ms=0, first_token_ms=-1, token_ms=float("nan"))
    assert [v.field for v in caught.value.violations] == [
        "--objective-p99-ms",
        "--objective-ttft-ms",
        "--objective-tpot-ms",
    ]


def test_nothing_came() -> None:
    found = measured([])
    assert (found.requests, found.throughput, found.kept, found.latency, found.late) == (0, 0, 1.0, None, None)


SAMPLES = st.lists(
    st.builds(sample, st.floats(0, 6), st.floats(0, 3), st.sampled_from([None, None, "unavailable"])), max_size=50
)


@given(SAMPLES, st.floats(1, 3000), st.floats(1, 3000))
def test_goodput_grows_with_the_limit_and_never_exceeds_what_came(
    samples: list[Sample], one: float, other: float
) -> None:
    strict, lax = (measured(samples, Objectives(latency_ms=limit)) for limit in sorted((one, other)))
    assert 0 <= strict.goodput <= lax.goodput <= measured(samples).goodput
    assert lax.goodput * WINDOW.duration <= lax.requests - lax.failed + 1e-9
    assert 0 <= strict.kept <= lax.kept <= 1
