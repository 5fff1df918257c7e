"""What every fault is."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import ClassVar

from tests.robustness.world import World


class Fault(ABC):
    """One kind of fault, done to a world while requests are under way."""

    name: ClassVar[str]
    injects: ClassVar[str]
    """What is done, in a few words."""
    quick: ClassVar[bool] = False
    """It needs neither a server of its own nor more than a second or two."""

    @abstractmethod
    async def inject(self, world: World, rng: random.Random) -> None:
        """Send the world's requests, do the fault meanwhile, and leave what is shared as it was."""
