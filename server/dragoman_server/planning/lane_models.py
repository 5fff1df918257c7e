"""What a lane of each family does with its plan, and how long that takes: rows and tokens alone, no arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from dragoman_server.planning.profile import Profile
from dragoman_server.submission import Submission


class SimulatedRequest(Submission[None, None]):
    """A request by its lengths alone; ``source_ids`` is a range of so many tokens."""

    def __init__(self, index: int, source: int, steps: int, arrived: float) -> None:
        super().__init__(range(source), None, _nobody_hears, number=index, arrived=arrived)
        self.index = index
        self.steps_left = steps


def _nobody_hears(_: object) -> None:
    """The simulation counts by itself."""


class LaneModel(Protocol):
    """One lane: ``running`` is what the scheduler is shown, and ``takes`` whether it may give joiners."""

    running: list[SimulatedRequest]

    @property
    def takes(self) -> bool:
        """Not while a prompt is under way."""

    def begin(self, joiners: Sequence[SimulatedRequest]) -> float:
        """What the lane does until its next plan, in seconds."""

    def end(self) -> list[SimulatedRequest]:
        """It is done: the requests that are answered."""


class TranslationLane:
    """All that join are encoded at once; then every live row takes one step."""

    takes = True

    def __init__(self, profile: Profile) -> None:
        self.running: list[SimulatedRequest] = []
        self._encoding = profile.encoding
        self._steps = [profile.step_seconds(rows) for rows in range(profile.max_rows + 1)]

    def begin(self, joiners: Sequence[SimulatedRequest]) -> float:
        """As ``LaneModel`` says."""
        self.running += joiners
        seconds = self._steps[len(self.running)]
        if joiners:
            seconds += self._encoding.at(sum(len(request.source_ids) for request in joiners))
        return seconds

    def end(self) -> list[SimulatedRequest]:
        """As ``LaneModel`` says."""
        ended = []
        for request in self.running:
            request.steps_left -= 1
            if not request.steps_left:
                ended.append(request)
        if ended:
            self.running = [request for request in self.running if request.steps_left]
        return ended


class GenerationLane:
    """Prompts are prefilled in chunks between the steps; those that wait for theirs hold a row, and take no step."""

    def __init__(self, profile: Profile) -> None:
        self.running: list[SimulatedRequest] = []
        self._encoding, self._chunk = profile.encoding, profile.join_tokens
        self._steps = [profile.step_seconds(rows) for rows in range(profile.max_rows + 1)]
        self._prompts: deque[SimulatedRequest] = deque()
        self._left: dict[int, int] = {}
        """Tokens that are still to be prefilled, by the request's index; the last token is fed by a step."""

    @property
    def takes(self) -> bool:
        """As ``LaneModel`` says."""
        return not self._prompts

    def begin(self, joiners: Sequence[SimulatedRequest]) -> float:
        """As ``LaneModel`` says; see ``joining.PromptJoining.turn``."""
        self.running += joiners
        self._prompts += joiners
        self._left |= {request.index: len(request.source_ids) - 1 for request in joiners}
        seconds, tokens = 0.0, 0
        while self._prompts:
            index = self._prompts[0].index
            size = min(self._left[index], self._chunk)
            if tokens + size > self._chunk:
                break
            tokens += size
            if size:
                seconds += self._encoding.at(size)
            self._left[index] -= size
            if self._left[index]:
                break
            del self._left[index]
            self._prompts.popleft()
        return seconds + self._steps[len(self.running) - len(self._prompts)]

    def end(self) -> list[SimulatedRequest]:
        """As ``LaneModel`` says."""
        ended = []
        for request in self.running:
            if request.index not in self._left:
                request.steps_left -= 1
                if not request.steps_left:
                    ended.append(request)
        if ended:
            self.running = [request for request in self.running if request.steps_left]
        return ended


class UnderstandingLane:
    """All that join are read in one pass, and answered."""

    takes = True

    def __init__(self, profile: Profile) -> None:
        self.running: list[SimulatedRequest] = []
        self._encoding = profile.encoding

    def begin(self, joiners: Sequence[SimulatedRequest]) -> float:
        """As ``LaneModel`` says."""
        self.running = list(joiners)
        return self._encoding.at(sum(len(request.source_ids) for request in joiners))

    def end(self) -> list[SimulatedRequest]:
        """As ``LaneModel`` says."""
        ended, self.running = self.running, []
        return ended


def lane_model(profile: Profile) -> LaneModel:
    """A lane of the profile's family."""
    if profile.family == "translation":
        return TranslationLane(profile)
    return GenerationLane(profile) if profile.family == "generation" else UnderstandingLane(profile)
