"""What faults happen in: a standing server that most of them share, servers of their own, and a model repository."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.robustness.asks import Answer, Ask, Generate, Translate
from tests.robustness.driving import Driver, Manner
from tests.robustness.history import Begun, Ended, History, Reading
from tests.robustness.profiles import Profile, Way
from tests.robustness.scene import RESIDENT, Scene
from tests.robustness.servers import Observable, Server
from tests.robustness.traffic import Traffic

MODELS = Path(__file__).parents[2] / "models"
STANDING = ("--lanes", "2", "--max-rows", "16", "--admin", "--grace", "10")
_WARM_AT_ONCE = 8


class World(Scene):
    """What one fault is given. ``standing`` is shared with the other faults, and must be alive and well at the end.

    ``repository`` is what the standing server serves; ``folder`` is the fault's own.
    """

    def __init__(
        self,
        history: History,
        pool: Mapping[str, Sequence[Ask]],
        alone: Mapping[str, Answer],
        rng: random.Random,
        *,
        requests: int,
        standing: Server,
        repository: Path,
        folder: Path,
        first: Reading | None = None,
    ) -> None:
        super().__init__(history, pool, alone, rng, requests=requests)
        self.standing = standing
        self.repository = repository
        self.folder = folder
        self.first = first
        """What the standing server held before any fault."""

    @contextlib.asynccontextmanager
    async def server(
        self,
        name: str,
        *options: str,
        repository: Path = MODELS,
        environment: Mapping[str, str] = os.environ,
        tls: ssl.SSLContext | None = None,
        scraper: str | None = None,
    ) -> AsyncIterator[Server]:
        """A server of the fault's own, which is killed in the end if it still runs."""
        own = Server(
            name,
            repository,
            *("--lanes", "2", "--max-rows", "16"),
            *options,
            environment=environment,
            tls=tls,
            scraper=scraper,
        )
        try:
            await own.start()
            yield own
        finally:
            own.kill()

    async def warm_up(self, *drivers: Driver) -> None:
        """Ask once for everything, so that what comes with first use is there before anybody measures."""
        await ask_each(drivers, [ask for kind in self.pool.values() for ask in kind], _WARM_AT_ONCE)

    async def under_load(
        self,
        profile: Profile,
        done: Callable[[Traffic], Awaitable[None]],
        *,
        share: float = 1.0,
        manner: Callable[[Ask, Way], Manner] = lambda ask, way: Manner(),
        errors_allowed: bool = False,
        resident: float = RESIDENT,
    ) -> Traffic:
        """Traffic that is nobody's fault, at the standing server, while ``done`` is done to it."""
        async with (
            self.watched(self.standing, errors_allowed=errors_allowed, resident=resident),
            self.channels(self.standing, 2) as drivers,
        ):
            traffic = self.traffic(drivers, profile, share=share, manner=manner)
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.run())
                await done(traffic)
        return traffic


async def ask_each(drivers: Sequence[Driver], asks: Sequence[Ask], at_once: int) -> None:
    """Ask for each of these once, as a call if there is one."""
    queue = iter(asks)

    async def user(driver: Driver) -> None:
        for ask in queue:
            await driver.send(ask, way_of(ask))

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(user(drivers[number % len(drivers)]))


def way_of(ask: Ask) -> Way:
    """The plainest way to send it."""
    return "stream" if isinstance(ask, Generate) else "call"


async def answers_alone(server: Observable, pool: Mapping[str, Sequence[Ask]], history: History) -> dict[str, Answer]:
    """The answer to each ask of the pool when the server does nothing else. Raises where one has none."""
    scene = Scene(history, pool, {}, random.Random(0), requests=0)
    async with scene.channels(server) as drivers:
        await ask_each(drivers, [ask for kind in pool.values() for ask in kind], 1)
    keys = {event.request: event.ask for event in history.events if isinstance(event, Begun)}
    answers = {}
    for event in history.events:
        if isinstance(event, Ended):
            if event.status != "OK":
                raise RuntimeError(f"{event.request} has no answer even alone: {event.status} {event.detail}")
            answers[keys[event.request]] = Answer(event.fingerprint, event.text)
    return answers


def copy_of_models(folder: Path, *names: str) -> Path:
    """A repository of its own with these models, or with all."""
    for model in sorted(MODELS.iterdir()):
        if not names or model.name in names:
            shutil.copytree(model, folder / model.name)
    return folder


def translations(pool: Mapping[str, Sequence[Ask]], kind: str) -> list[Translate]:
    """The translations of that kind."""
    return [ask for ask in pool[kind] if isinstance(ask, Translate)]
