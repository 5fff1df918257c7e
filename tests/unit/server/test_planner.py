"""The plan is the model's inverse: what it says is enough is enough, and one less is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dragoman_server.errors import InvalidArgument
from dragoman_server.planning import report
from dragoman_server.planning.model import capacity, predict
from dragoman_server.planning.planner import Plan, Target, Unmeetable, plan
from dragoman_server.planning.profile import Length, Memory, Profile
from dragoman_server.planning.workload import Workload
from tests.unit.server.profiles import MIB, reading, translating

REQUESTS = 150
"""Simulated at a time: enough to plan by, where it is the same ones each time."""


def planned(profile: Profile, target: Target) -> Plan:
    return plan(profile, Workload.measured(profile), target, requests=REQUESTS)


@pytest.mark.parametrize(("rate", "p99"), [(50.0, 40.0), (1500.0, 40.0), (1500.0, 400.0)])
def test_the_plan_meets_the_target_and_one_replica_less_does_not(rate: float, p99: float) -> None:
    profile = translating()
    workload = Workload.measured(profile)
    found = planned(profile, Target(rate, p99))
    assert found.prediction.p99_ms <= p99
    shape = profile.with_shape(found.lanes, found.max_rows)
    again = predict(shape, workload, rate, replicas=found.replicas, requests=REQUESTS)
    assert again == found.prediction
    if found.replicas > 1:
        fewer = predict(profile, workload, rate, replicas=found.replicas - 1, requests=REQUESTS)
        beyond = rate / (found.replicas - 1) > 0.95 * capacity(profile, workload)
        assert beyond or fewer.p99_ms > p99
    assert found.headroom >= 0
    assert found.memory == profile.memory.total(found.lanes, found.max_rows)


def test_a_longer_latency_needs_no_more_replicas() -> None:
    counts = [planned(translating(), Target(1500.0, p99)).replicas for p99 in (30.0, 60.0, 600.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_rows_that_nobody_uses_are_left_out() -> None:
    profile = translating()
    found = planned(profile, Target(50.0, 100.0))
    assert found.max_rows < profile.max_rows
    assert found.max_rows >= found.prediction.peak_rows


def test_a_latency_below_that_of_one_request_cannot_be_met() -> None:
    profile = translating(lengths=(Length(40, 40),))
    alone = predict(profile, Workload.measured(profile), 1e-3, requests=REQUESTS).p99_ms
    with pytest.raises(Unmeetable, match=rf"p99 = 5 ms: {alone:.1f} ms at the least") as caught:
        planned(profile, Target(10.0, 5.0))
    assert "a server to themselves" in str(caught.value)
    assert planned(profile, Target(1.0, alone * 1.1)).floor_ms == pytest.approx(alone)


def test_less_memory_means_fewer_rows_or_lanes_and_more_replicas() -> None:
    # Where calls cost little, it is lanes that are short.
    profile = translating(call_alone=0.0002, call_busy=0.0001)
    free = planned(profile, Target(3000.0, 60.0))
    tight = planned(profile, Target(3000.0, 60.0, memory_limit=125 * MIB))
    assert tight.memory <= 125 * MIB
    assert tight.lanes == 1
    assert tight.replicas > free.replicas


def test_memory_that_one_row_does_not_fit_into() -> None:
    with pytest.raises(Unmeetable, match="memory limit = 100 MiB: one lane of one row takes 110 MiB"):
        planned(translating(), Target(10.0, 60.0, memory_limit=100 * MIB))


def test_texts_that_are_read_in_passes_are_planned_alike() -> None:
    found = planned(reading(), Target(3000.0, 50.0))
    assert found.replicas > 1
    assert found.prediction.p99_ms <= 50.0


def test_a_target_names_all_that_is_wrong() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Target(0.0, float("nan"), -1)
    assert [one.field for one in caught.value.violations] == ["rate", "p99", "memory_limit"]


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile = translating()
    profile.write(path)
    assert Profile.read(path) == profile


def test_a_faulty_profile_is_refused_with_all_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    text = translating().model_dump_json().replace('"lanes":2', '"lanes":0,"colour":"red"')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidArgument) as caught:
        Profile.read(path)
    assert {one.field for one in caught.value.violations} == {"profile.lanes", "profile.colour"}
    with pytest.raises(InvalidArgument, match="a readable file"):
        Profile.read(tmp_path / "none.json")


@pytest.mark.parametrize("steps", [(), ((4, 0.1), (2, 0.1)), ((1, -0.1),)], ids=["none", "not ascending", "negative"])
def test_steps_that_cannot_be(steps: tuple[tuple[int, float], ...], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    changed = translating().model_dump(mode="json") | {"steps": steps}
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InvalidArgument, match="profile"):
        Profile.read(path)


def test_a_step_takes_what_its_bucket_takes() -> None:
    profile = translating()
    assert profile.step_seconds(0) == 0
    assert profile.step_seconds(1) == pytest.approx(0.00035)
    assert profile.step_seconds(5) == profile.step_seconds(6) == pytest.approx(0.0006)  # between 4 and 8
    assert profile.step_seconds(33) == profile.step_seconds(34) < profile.step_seconds(35)


def test_one_lane_of_two_is_not_crowded() -> None:
    one = translating(crowding=1.5).with_shape(1, 8)
    assert (one.lanes, one.max_rows, one.crowding) == (1, 8, 1.0)
    assert one.step_seconds(1) == pytest.approx(0.00035 / 1.5)
    with pytest.raises(InvalidArgument, match="1 to 2 lanes"):
        translating().with_shape(3, 8)


def test_what_is_printed_says_everything() -> None:
    profile = translating(memory=Memory(80 * MIB, 30 * MIB, MIB // 4))
    workload = Workload.measured(profile)
    found = planned(profile, Target(1500.0, 60.0))
    text = report.text(found, profile, workload, 60.0)
    for part in (f"{found.replicas}, each 2 lanes of {found.max_rows} rows", "p50", "p95", "p99", "headroom", "floor"):
        assert part in text
    known = report.as_json(found, profile, workload)
    assert known["replicas"] == found.replicas
    assert known["headroom"] == found.headroom
