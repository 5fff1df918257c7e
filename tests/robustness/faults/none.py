"""No fault at all."""

from __future__ import annotations

import random
from typing import ClassVar

from tests.robustness import profiles
from tests.robustness.faults.fault import Fault
from tests.robustness.faults.models import RELOADED
from tests.robustness.traffic import Traffic
from tests.robustness.world import World


class NoFault(Fault):
    """The control, and the end of a campaign: each profile once more, after everything that has happened."""

    name: ClassVar = "none"
    injects: ClassVar = "nothing: every profile in turn, after all that came before"
    quick: ClassVar = True

    async def inject(self, world: World, rng: random.Random) -> None:
        async def nothing(traffic: Traffic) -> None:
            """Is done."""

        for profile in profiles.PROFILES:
            await world.under_load(profile, nothing, share=1 / len(profiles.PROFILES))
        if world.first is not None:  # what each fault leaves within its bounds must not add up
            since = f"{world.standing.name}, from the first fault to the last"
            world.history.observe(since, "before", world.first, resident_bound=RELOADED)
            last = await world.standing.reading()
            world.history.observe(since, "after", last, resident_bound=RELOADED, errors_allowed=True)
