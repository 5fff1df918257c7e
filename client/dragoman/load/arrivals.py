"""When requests arrive that nobody holds back: a Poisson process, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random


def poisson(
    random: Random,
    rate: float,
    seconds: float,
    *,
    intensity: Callable[[float], float] = lambda moment: 1.0,
    peak: float = 1.0,
) -> Iterator[float]:
    """Moments in [0, seconds), ascending: ``rate`` a second on average, independent of each other.

    ``intensity`` says how many of the mean rate come at a moment, ``peak`` is its largest value:
    arrivals at the peak's rate are drawn and thinned (Lewis and Shedler 1979, "Simulation of nonhomogeneous Poisson
    processes by thinning"). Raises ValueError for a rate or peak that is not above 0.
    """
    if not rate > 0 or not peak > 0:
        raise ValueError(f"rate = {rate}, peak = {peak}: above 0")
    now = random.expovariate(rate * peak)
    while now < seconds:
        if random.random() * peak < intensity(now):
            yield now
        now += random.expovariate(rate * peak)
