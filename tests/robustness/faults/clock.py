"""The wall clock jumps: deadlines, ageing and quotas must not care."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import ClassVar

from tests.robustness import profiles
from tests.robustness.faults.fault import Fault
from tests.robustness.world import World

_SHIM = Path(__file__).with_name("clock_shim.c")
_JUMPS = (3600, -3600, 10 * 86_400, 0)
"""Seconds away from the right time."""


class ClockJumps(Fault):
    """A server whose wall clock is set by a file, through a library that is loaded before the C library's."""

    name: ClassVar = "clock-jumps"
    injects: ClassVar = "the wall clock set an hour ahead, an hour back, ten days ahead, and right again"

    async def inject(self, world: World, rng: random.Random) -> None:
        library, file = world.folder / "clock_shim.so", world.folder / "shift"
        compiler = await asyncio.create_subprocess_exec(
            *("cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(_SHIM), "-ldl")
        )
        if await compiler.wait():
            raise RuntimeError("clock_shim.c does not compile")
        file.write_text("0")
        environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(file)}
        async with (
            world.server("unsteady", environment=environment) as server,
            world.channels(server, 2) as drivers,
        ):
            await world.warm_up(*drivers)
            async with world.watched(server):
                traffic = world.traffic(drivers, profiles.DAY)
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    for number, seconds in enumerate(_JUMPS, 1):
                        await traffic.reached(number / (len(_JUMPS) + 1))
                        beside = file.with_suffix(".new")
                        beside.write_text(str(seconds))
                        beside.rename(file)
                        world.history.injected(f"the wall clock is {seconds} s off")
