"""One model as it is being served, whatever its family: its bundle and its running engine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from dragoman_protos.v1 import bundle_pb2, models_pb2
from dragoman_server.first_answers import FirstAnswer
from dragoman_server.lanes import EngineState

if TYPE_CHECKING:
    from dragoman_server.explaining.explainer import Explainer  # brings in onnxruntime


class RunningEngine(Protocol):
    """The life of any engine; see ``lanes.LaneEngine``."""

    def start(self) -> None:
        """Warm up and take work."""

    def state(self) -> EngineState:
        """What waits, what runs and what was done; from any thread."""

    def stop(self, grace: float) -> None:
        """Finish work for ``grace`` seconds, then end the rest with Unavailable."""


@dataclass(frozen=True, kw_only=True)
class ModelHost(ABC):
    """A loaded model and how it is served. There is one kind of host for each family of models."""

    bundle: bundle_pb2.Bundle
    version: str
    engine: RunningEngine
    precision: str
    provider: str
    lanes: int
    max_rows: int
    longest_text: int
    """Characters: a longer text is refused before it is tokenised, since its tokens could not fit."""
    explainer: Explainer | None = None
    """None: the bundle has no ``explain.onnx``."""

    @cached_property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.name

    def stop(self, grace: float) -> None:
        """Stop the engine, then what explains; blocks. Work goes on for ``grace`` seconds."""
        end = time.monotonic() + grace
        self.engine.stop(grace)
        if self.explainer is not None:
            self.explainer.stop(max(0.0, end - time.monotonic()))

    def does(self, task: bundle_pb2.Bundle.Task.ValueType) -> bool:
        """Whether the model was made for the task."""
        return task in self.bundle.tasks

    def summary(self, *, default: bool) -> models_pb2.Model:
        """The model in one message."""
        return models_pb2.Model(
            name=self.name,
            version=self.version,
            family=self.bundle.family,
            tasks=self.bundle.tasks,
            languages=[language.code for language in self.bundle.languages],
            precision=self.precision,
            provider=self.provider,
            lanes=self.lanes,
            max_rows=self.max_rows,
            default=default,
            state=models_pb2.Model.STATE_READY,
        )

    @abstractmethod
    def first_answers(self) -> list[FirstAnswer]:
        """Do each thing that the model is for once, with a sentence of our own.

        Blocks; raises a ServerError when the engine fails, TimeoutError when it does not answer within a minute.
        """
