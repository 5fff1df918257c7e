"""A campaign: one fault after another, each with its share of the requests and a history that is checked."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.asks import pool
from tests.robustness.faults.fault import Fault
from tests.robustness.faults.none import NoFault
from tests.robustness.history import Begun, Ended, History, Injected
from tests.robustness.invariants import Violation, violations
from tests.robustness.servers import Server
from tests.robustness.world import STANDING, World, answers_alone, copy_of_models


@dataclass(frozen=True)
class Result:
    """What one fault came to."""

    fault: str
    injects: str
    injections: int
    requests: int
    ended: Mapping[str, int]
    """Requests by the status that they ended with."""
    violations: Sequence[Violation]
    seconds: float
    reproduce: str = ""
    """The command that does this fault again; where there are violations."""


@dataclass
class Campaign:
    """Which faults, how many requests in all, and from which seed everything is drawn.

    Histories are written to ``output`` where an invariant was broken; ``show`` is told each result as it comes.
    """

    faults: Sequence[Fault]
    requests: int
    seed: int
    output: Path
    show: Callable[[Result], None] = lambda result: None
    results: list[Result] = field(default_factory=list)

    async def run(self) -> Sequence[Result]:
        """Inject all faults; the results, in their order."""
        asks = pool()
        with tempfile.TemporaryDirectory(prefix="dragoman-robustness-") as name:
            folder = Path(name)
            repository = copy_of_models(folder / "models")
            standing = Server("standing", repository, *STANDING)
            try:
                await standing.start()
                answers = await answers_alone(standing, asks, History("alone"))
                first = await standing.reading()
                for fault in self.faults:
                    if not standing.running:  # the fault before has killed it, and has been told so
                        standing.kill()
                        await standing.start()
                        first = await standing.reading()
                    own = folder / fault.name
                    own.mkdir()
                    # By the fault's name: it draws the same when it is injected alone.
                    rng = random.Random(f"{self.seed} {fault.name}")
                    world = World(
                        History(fault.name),
                        asks,
                        answers,
                        rng,
                        requests=self._share(fault),
                        standing=standing,
                        repository=repository,
                        folder=own,
                        first=first,
                    )
                    await self._inject(fault, world)
            finally:
                standing.kill()
        return self.results

    async def _inject(self, fault: Fault, world: World) -> None:
        history = world.history
        began = time.monotonic()
        try:
            await fault.inject(world, world.rng)
        except Exception as error:
            history.expect(False, f"the fault could not be played to its end: {error!r} {_causes(error)}")
        history.expect(world.standing.running, "the standing server is not running any more")
        found = violations(history.events, world.alone)
        reproduce = ""
        if found:
            self.output.mkdir(parents=True, exist_ok=True)
            history.write(self.output / f"{fault.name}.jsonl")
            reproduce = (
                f"python -m tests.robustness --seed {self.seed} --requests {world.requests} --faults {fault.name}"
            )
        ended = Counter(event.status for event in history.events if isinstance(event, Ended))
        result = Result(
            fault=fault.name,
            injects=fault.injects,
            injections=sum(isinstance(event, Injected) for event in history.events),
            requests=sum(isinstance(event, Begun) for event in history.events),
            ended=dict(sorted(ended.items(), key=lambda entry: (entry[0] != "OK", entry[0]))),
            violations=found,
            seconds=time.monotonic() - began,
            reproduce=reproduce,
        )
        self.results.append(result)
        self.show(result)

    def _share(self, fault: Fault) -> int:
        """An equal share each; the control takes what others have left over, such as those whose server had ended."""
        share = max(1, -(-self.requests // len(self.faults)))
        if isinstance(fault, NoFault):
            return max(share, self.requests - sum(result.requests for result in self.results))
        return share


def _causes(error: BaseException) -> str:
    """What is inside a group of exceptions."""
    return "; ".join(repr(inner) for inner in error.exceptions) if isinstance(error, BaseExceptionGroup) else ""
