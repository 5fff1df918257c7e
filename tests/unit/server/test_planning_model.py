"""The queueing model: what must hold of any queue, and what is known of simple ones."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from dragoman_server.errors import InvalidArgument
from dragoman_server.planning import call_measuring
from dragoman_server.planning.closed_form import estimate
from dragoman_server.planning.cores import Cores
from dragoman_server.planning.model import capacity, predict
from dragoman_server.planning.profile import Length, Linear, Pilot, Profile, StepPoint
from dragoman_server.planning.simulation import Simulation, closed_loop, open_loop
from dragoman_server.planning.workload import Workload
from tests.unit.server.profiles import STEP, generating, one_at_a_time, reading, translating

FEW = 500
FAMILIES = [translating(), generating(), reading()]
LATENCIES = {"p50_ms": 1.5, "p95_ms": 2.5, "p99_ms": 3.5, "mean_ms": 2.0}
"""Of a prediction: and how many times as long they are half-way between two pilots."""
NAMES = [profile.model for profile in FAMILIES]


def exponential(mean: int, count: int = 4000) -> tuple[Length, ...]:
    """Lengths whose steps are distributed as exponential times, at their quantiles."""
    shares = (np.arange(count) + 0.5) / count
    return tuple(Length(1, max(1, round(-mean * np.log1p(-share)))) for share in shares)


def test_threads_share_cores_evenly() -> None:
    ended: list[float] = []
    cores = Cores(2)
    for seconds in (1.0, 2.0, 2.0):
        cores.begin(seconds, lambda: ended.append(cores.now))
    while cores.next_end < float("inf"):
        cores.advance(cores.next_end)
        cores.finish_next()
    # Three on two cores: two thirds of a second's work in each second, until the first ends at 1.5.
    assert ended == pytest.approx([1.5, 2.5, 2.5])
    assert cores.busy_seconds == pytest.approx(5.0)


def test_waits_take_no_core_and_end_in_their_order() -> None:
    ended: list[tuple[str, float]] = []
    cores = Cores(1)
    cores.begin(1.0, lambda: ended.append(("work", cores.now)))
    cores.wait(2.0, lambda: ended.append(("long", cores.now)))
    cores.wait(0.5, lambda: ended.append(("short", cores.now)))
    assert cores.full
    while cores.next_end < float("inf"):
        cores.advance(cores.next_end)
        cores.finish_next()
    assert [name for name, _ in ended] == ["short", "work", "long"]
    assert [seconds for _, seconds in ended] == pytest.approx([0.5, 1.0, 2.0])
    assert cores.busy_seconds == pytest.approx(1.0)
    assert not cores.full


def test_who_wakes_up_waits_for_a_core_only_where_all_are_at_work() -> None:
    workload = Workload(translating().lengths, 0.0005)
    at_once, late = (translating(wake=wake) for wake in (0.0, 0.002))
    medians = [predict(profile, workload, 150, requests=1500).p50_ms for profile in (at_once, late)]
    assert medians[0] + 1 < medians[1] < medians[0] + 4 * 2  # at most four times: there and back, caller and loop
    # With more cores than threads nobody waits.
    spare = [profile.model_copy(update={"cores": 8}) for profile in (at_once, late)]
    assert predict(spare[0], workload, 150, requests=500) == predict(spare[1], workload, 150, requests=500)


def test_what_calls_cost_is_found_from_what_callers_see() -> None:
    workload = Workload(translating().lengths, 0.0005)

    def seen(profile: Profile, seed: int) -> tuple[float, float, float]:
        few, many = (
            closed_loop(profile, workload, callers, 1500, seed)
            for callers in (call_measuring.FEW, call_measuring.CALLERS)
        )
        one = closed_loop(profile, workload, 1, 1500, seed)
        medians = [float(np.median(trace.answered - trace.arrived)) for trace in (one, few)]
        return medians[0], medians[1], many.sustained

    real = translating(call_alone=0.002, call_busy=0.0006, wake=0.0015)
    one, few, throughput = seen(real, 3)
    bare = real.model_copy(update={"call_alone": 0.0, "call_busy": 0.0, "wake": 0.0})
    found = call_measuring.fitted(bare, workload, alone=one, few=few, throughput=throughput)
    assert found.alone == pytest.approx(0.002, rel=0.1)
    assert found.busy == pytest.approx(0.0006, rel=0.25)
    assert found.wake > 0.0005
    costs = {"call_alone": found.alone, "call_busy": found.busy, "wake": found.wake}
    assert seen(bare.model_copy(update=costs), 5) == pytest.approx((one, few, throughput), rel=0.07)


def test_latencies_are_stretched_as_those_of_pilots_were_at_the_same_use_of_the_cores() -> None:
    plain = translating()
    workload = Workload.measured(plain)
    bare = predict(plain, workload, 300, requests=FEW)
    low, high = Pilot(bare.utilisation - 0.1, 1.0, 2.0, 3.0, 1.5), Pilot(bare.utilisation + 0.1, 2.0, 3.0, 4.0, 2.5)
    between = predict(translating(pilots=(low, high)), workload, 300, requests=FEW)
    stretched = {name: getattr(bare, name) * by for name, by in LATENCIES.items()}
    assert {name: getattr(between, name) for name in LATENCIES} == pytest.approx(stretched)
    same = {name: value for name, value in asdict(bare).items() if name not in LATENCIES}
    assert asdict(between) | same == asdict(between)
    # Beyond the pilots, the nearest counts.
    beyond = predict(translating(pilots=(high,)), workload, 300, requests=FEW)
    assert beyond.p50_ms == pytest.approx(2 * bare.p50_ms)


def test_percentiles_keep_their_order_whatever_the_pilots_say() -> None:
    plain = translating()
    workload = Workload.measured(plain)
    odd = translating(pilots=(Pilot(0.5, 10.0, 0.1, 0.1, 1.0),))
    found = predict(odd, workload, 300, requests=FEW)
    assert found.p50_ms <= found.p95_ms <= found.p99_ms
    assert found.p50_ms == pytest.approx(10 * predict(plain, workload, 300, requests=FEW).p50_ms)


def test_nothing_is_stretched_where_more_comes_than_is_answered() -> None:
    plain = translating()
    workload = Workload.measured(plain)
    flood = 2 * capacity(plain, workload)
    bare = predict(plain, workload, flood, requests=FEW)
    assert bare.overloaded
    assert not predict(plain, workload, 10, requests=FEW).overloaded
    assert predict(translating(pilots=(Pilot(0.5, 2.0, 2.0, 2.0, 2.0),)), workload, flood, requests=FEW) == bare


def test_pilots_have_an_order() -> None:
    one = Pilot(0.5, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValidationError, match="pilots: utilisation ascends"):
        translating(pilots=(one, one))


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_equal_requests_one_at_a_time_wait_as_the_formula_says(load: float) -> None:
    """M/D/1: Pollaczek and Khinchine."""
    profile = one_at_a_time()
    found = predict(profile, Workload.measured(profile), load / STEP, requests=12_000)
    assert found.mean_ms == pytest.approx(STEP * 1e3 * (1 + load / (2 * (1 - load))), rel=0.08)
    assert found.lane_utilisation == pytest.approx(load, rel=0.04)
    assert found.throughput == pytest.approx(load / STEP, rel=0.04)


def test_random_requests_one_at_a_time_wait_as_the_formula_says() -> None:
    """M/M/1: exponential times, so the latency is exponential too, with a 99th percentile of ln 100 means."""
    profile = one_at_a_time(exponential(10))
    load, workload = 0.4, Workload.measured(profile)
    service = workload.mean_steps * STEP
    found = predict(profile, workload, load / service, requests=10_000)
    assert found.mean_ms == pytest.approx(service * 1e3 / (1 - load), rel=0.08)
    assert found.p99_ms == pytest.approx(service * 1e3 / (1 - load) * np.log(100), rel=0.15)
    # There the closed form is exact.
    assert estimate(profile, workload, load / service).mean_ms == pytest.approx(service * 1e3 / (1 - load), rel=1e-6)


@pytest.mark.parametrize("lengths", [(Length(1, 20),), exponential(20)], ids=["equal", "random"])
def test_rows_that_share_a_lane_are_processor_sharing(lengths: tuple[Length, ...]) -> None:
    """A step in proportion to its rows: the mean latency is the formula's, whatever the lengths' distribution."""
    steps = (StepPoint(1, 1e-5), StepPoint(256, 256e-5))
    profile = one_at_a_time(lengths).model_copy(update={"max_rows": 256, "steps": steps})
    workload = Workload.measured(profile)
    rate = 0.4 / (workload.mean_steps * 1e-5)
    simulated = predict(profile, workload, rate, requests=4000)
    formula = estimate(profile, workload, rate)
    assert simulated.mean_ms == pytest.approx(formula.mean_ms, rel=0.1)
    assert simulated.present == pytest.approx(formula.present, rel=0.1)


@pytest.mark.parametrize("profile", FAMILIES, ids=NAMES)
def test_every_request_ends_once_and_little_holds(profile: Profile) -> None:
    trace = open_loop(profile, Workload.measured(profile, local=True), 200.0, FEW, seed=4)
    assert np.isfinite(trace.answered).all()
    assert (trace.joined >= trace.arrived).all()
    assert (trace.answered > trace.joined).all()
    # Little's law, of which the simulation knows nothing: both sides are counted apart.
    assert trace.present_seconds == pytest.approx(float((trace.answered - trace.arrived).sum()))


def test_lanes_are_at_work_for_as_long_as_the_work_takes() -> None:
    """The utilisation law: what was used is what was asked for."""
    profile = one_at_a_time(exponential(10))
    trace = open_loop(profile, Workload.measured(profile), 0.7 / (10 * STEP), FEW, seed=4)
    simulation = Simulation(profile, [Length(1, 5)] * 10, callers=1)
    alone = simulation.run()
    assert alone.lane_seconds == pytest.approx(10 * 5 * STEP)
    assert alone.core_seconds == pytest.approx(10 * 5 * STEP)
    assert trace.core_seconds == pytest.approx(trace.row_steps * STEP)


@pytest.mark.parametrize("profile", FAMILIES, ids=NAMES)
def test_more_requests_wait_longer(profile: Profile) -> None:
    # A call costs less where the event loop is awake; here it does not, so that more is worse.
    profile = profile.model_copy(update={"call_busy": profile.call_alone})
    workload = Workload.measured(profile)
    rates = [20.0, 100.0, 400.0]
    found = [predict(profile, workload, rate, requests=FEW) for rate in rates]
    for less, more in pairwise(found):
        assert less.mean_ms < more.mean_ms
        assert less.p99_ms < 1.03 * more.p99_ms
        assert less.utilisation < more.utilisation
        assert less.present < more.present


@pytest.mark.parametrize("profile", FAMILIES, ids=NAMES)
def test_replicas_share_the_requests(profile: Profile) -> None:
    workload = Workload.measured(profile)
    one, two = (predict(profile, workload, 400.0, replicas=count, requests=FEW) for count in (1, 2))
    half = predict(profile, workload, 200.0, requests=FEW)
    assert two.p99_ms < one.p99_ms
    assert (two.p50_ms, two.p99_ms, two.utilisation) == (half.p50_ms, half.p99_ms, half.utilisation)
    assert two.throughput == pytest.approx(2 * half.throughput)


def test_the_same_seed_gives_the_same_prediction() -> None:
    profile = translating()
    workload = Workload.measured(profile)
    first, again, other = (predict(profile, workload, 300.0, requests=FEW, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert other.mean_ms == pytest.approx(first.mean_ms, rel=0.3)


@pytest.mark.parametrize("profile", FAMILIES, ids=NAMES)
def test_no_more_is_answered_than_callers_who_wait_for_each_other_get(profile: Profile) -> None:
    small = profile.model_copy(update={"max_waiting": 20, "call_alone": 0.0001, "call_busy": 0.00005})
    workload = Workload.measured(small)
    found = predict(small, workload, 3 * capacity(small, workload), requests=6 * FEW)
    # Full lanes are not always the fastest: prompts are prefilled one by one, while all rows wait for the next step.
    rows = small.lanes * small.max_rows
    gotten = [closed_loop(small, workload, rows // part, 12 * rows, 1).sustained for part in (1, 2, 4)]
    assert found.refused > 0.3
    assert 0.8 * min(gotten) <= found.throughput <= 1.2 * max(gotten)
    assert found.throughput <= found.rate * (1 - found.refused) * 1.1


def test_a_call_by_itself_takes_what_its_parts_take() -> None:
    profile = translating(lengths=(Length(20, 7),), crowding=1.5)
    trace = closed_loop(profile, Workload(profile.lengths, caller=0.001), 1, 50, 1)
    # Measured while both lanes worked: by itself a lane is faster.
    lane = (0.0003 + 20 * 0.00001 + 7 * (0.0003 + 0.00005)) / 1.5
    assert trace.answered - trace.arrived == pytest.approx(np.full(50, 0.001 + 0.002 + lane))


def test_a_prompt_is_prefilled_in_chunks_between_the_steps_of_others() -> None:
    profile = generating().model_copy(update={"lanes": 1, "crowding": 1.0, "call_alone": 0.0, "call_busy": 0.0})
    # The first has 5 steps; the second comes at once behind it with 33 tokens: two chunks, and its last is fed.
    simulation = Simulation(profile, [Length(1, 5), Length(33, 2)], arrivals=np.array([0.0, 1e-9]))
    trace = simulation.run()
    one, two, chunk = 0.0003 + 0.00005, 0.0003 + 0.0001, 0.0003 + 16 * 0.00001
    # Alone; then with a chunk before it; then with the second chunk, and both have a row; then both; then one alone.
    assert trace.answered[1] == pytest.approx(one + (chunk + one) + (chunk + two) + two)
    assert trace.answered[0] == pytest.approx(trace.answered[1] + one)


def test_texts_that_come_during_a_pass_are_read_in_the_next() -> None:
    profile = reading().model_copy(update={"lanes": 1, "crowding": 1.0, "call_alone": 0.0, "call_busy": 0.0})
    simulation = Simulation(profile, [Length(10, 1)] * 3, arrivals=np.array([0.0, 1e-4, 2e-4]))
    trace = simulation.run()
    first = 0.0003 + 10 * 0.00001
    assert trace.answered == pytest.approx([first, first + 0.0003 + 20 * 0.00001, first + 0.0003 + 20 * 0.00001])


def test_what_is_impossible_is_refused_all_at_once() -> None:
    profile = translating()
    with pytest.raises(InvalidArgument) as caught:
        predict(profile, Workload.measured(profile), -1.0, replicas=0, requests=0)
    assert [one.field for one in caught.value.violations] == ["rate", "replicas", "requests"]
    with pytest.raises(InvalidArgument, match="at least one"):
        Workload(())
    with pytest.raises(InvalidArgument, match="1000000 tokens"):
        Workload((Length(0, 1),))


def test_scaled_lengths_keep_their_spread() -> None:
    profile = translating()
    workload = Workload.measured(profile, local=True)
    longer = workload.scaled(2 * workload.mean_source, "translation")
    assert longer.mean_source == pytest.approx(2 * workload.mean_source, rel=0.01)
    assert longer.mean_steps == pytest.approx(2 * workload.mean_steps, rel=0.05)
    assert workload.scaled(50.0, "generation").mean_steps == workload.mean_steps
    assert predict(profile, longer, 50.0, requests=FEW).p50_ms > predict(profile, workload, 50.0, requests=FEW).p50_ms


def test_the_formula_knows_where_the_end_is() -> None:
    profile = translating()
    workload = Workload.measured(profile)
    formula = estimate(profile, workload, 100.0)
    assert formula.capacity == pytest.approx(capacity(profile, workload), rel=0.25)
    assert formula.p50_ms < formula.p99_ms
    assert estimate(profile, workload, 2 * formula.capacity).refused == pytest.approx(0.5, rel=0.05)
    encoding = dataclasses.replace(workload, caller=0.01)
    assert estimate(profile, encoding, 10.0).mean_ms > estimate(profile, workload, 10.0).mean_ms + 9
    assert Linear(0.1, 0.01).at(10) == pytest.approx(0.2)
