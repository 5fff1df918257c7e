"""What was measured of one model on one machine: all that a prediction needs to know of them, as JSON."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.rows import row_buckets

Family = Literal["translation", "generation", "understanding"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

_MOST_FAULTS = 8


class Length(NamedTuple):
    """How long one request is."""

    source: Count
    """Tokens that are encoded, prefilled or read."""
    steps: Count
    """Decoding steps; 1 of what is read in one pass."""


class StepPoint(NamedTuple):
    """What one step takes."""

    rows: Count
    seconds: Seconds


class Linear(NamedTuple):
    """Seconds that grow with a number of tokens."""

    fixed: Seconds
    each: Seconds

    def at(self, tokens: float) -> float:
        """Seconds for so many tokens."""
        return self.fixed + self.each * tokens


Stretch = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Pilot(NamedTuple):
    """A server under random arrivals: how many times as long its latencies are as the simulated ones."""

    utilisation: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Share of the cores' time, as simulated."""
    p50: Stretch
    p95: Stretch
    p99: Stretch
    mean: Stretch


class Memory(NamedTuple):
    """Bytes that a server with this one model holds."""

    process: Annotated[int, Field(ge=0)]
    """Before a model is loaded."""
    lane: Annotated[int, Field(ge=0)]
    """Weights of a lane, and what it computes with."""
    row: Annotated[int, Field(ge=0)]
    """The caches of one row."""

    def total(self, lanes: int, rows: int) -> int:
        """Of a server with so many lanes of so many rows."""
        return self.process + lanes * (self.lane + rows * self.row)


class Profile(BaseModel):
    """One model on one machine. Times in seconds; frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str = "1"
    precision: str = "int8"
    machine: str = ""
    """The processor, for people."""
    family: Family
    cores: Count
    """That the server may use; a caller on the same machine takes its share of them."""
    lanes: Count
    max_rows: Count
    max_waiting: Count = 1024
    max_waiting_tokens: Count = 65_536
    join_tokens: Count = 512
    """Source tokens that join a lane at one time; of a decoder-only model, those of a prompt's chunk."""
    steps: tuple[StepPoint, ...] = ()
    """A lane's step by its live rows, from the end of one to that of the next while all lanes work, without encoding;
    rows ascend. Empty for what is read in one pass."""
    encoding: Linear
    """A group of sources, a chunk of a prompt, or a pass, by its tokens, while all lanes work."""
    crowding: Annotated[float, Field(ge=1, le=64)] = 1.0
    """How much longer a lane takes while all lanes work than by itself."""
    call_alone: Seconds
    """What gRPC, tokenising and the service take of a call that finds the event loop asleep."""
    call_busy: Seconds
    """The same where the event loop is at work already: one wake-up serves several calls."""
    wake: Seconds = 0.0
    """That event loop and callers wait for a core where they wake up while all are at work."""
    caller: Seconds = 0.0
    """Processor time of a call for the caller that measured."""
    pilots: tuple[Pilot, ...] = ()
    """Utilisation ascends. Between two, latencies are stretched linearly; none: they are as simulated."""
    lengths: Annotated[tuple[Length, ...], Field(min_length=1)]
    """Of the texts that were measured with."""
    memory: Memory = Memory(0, 0, 0)

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if (self.family == "understanding") == bool(self.steps):
            raise ValueError("steps: there are some unless the family is understanding")
        if any(one.rows >= other.rows for one, other in pairwise(self.steps)):
            raise ValueError("steps: rows ascend")
        if any(one.utilisation >= other.utilisation for one, other in pairwise(self.pilots)):
            raise ValueError("pilots: utilisation ascends")
        return self

    def step_seconds(self, rows: int) -> float:
        """A step over so many live rows: of the bucket that they are run in, between two measured ones linearly."""
        if rows < 1:
            return 0.0
        buckets = row_buckets(max(rows, self.max_rows))
        bucket = buckets[bisect_left(buckets, rows)]
        return _between(self.steps, bucket)

    def with_shape(self, lanes: int, max_rows: int) -> Profile:
        """The same machine with no more lanes than were measured, of so many rows: fewer lanes crowd one another less.

        Raises InvalidArgument.
        """
        if not (1 <= lanes <= self.lanes and max_rows >= 1):
            raise InvalidArgument([Violation("lanes", f"{lanes} of {max_rows} rows", f"1 to {self.lanes} lanes")])
        crowding = 1 + (self.crowding - 1) * (lanes - 1) / max(1, self.lanes - 1)
        faster = crowding / self.crowding
        return self.model_copy(
            update={
                "lanes": lanes,
                "max_rows": max_rows,
                "steps": tuple(StepPoint(point.rows, point.seconds * faster) for point in self.steps),
                "encoding": Linear(self.encoding.fixed * faster, self.encoding.each * faster),
                "crowding": crowding,
            }
        )

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Raises InvalidArgument with every fault of the file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidArgument([Violation("profile", str(path), f"a readable file: {error.strerror}")]) from error
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)[:_MOST_FAULTS]
            raise InvalidArgument(
                [Violation(".".join(map(str, ("profile", *f["loc"]))), str(path), f["msg"]) for f in faults]
            ) from error

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _between(points: Sequence[StepPoint], rows: int) -> float:
    """Linearly between two points; beyond them, on the line through the outermost two."""
    if len(points) == 1:
        return points[0].seconds
    place = min(max(1, bisect_left([point.rows for point in points], rows)), len(points) - 1)
    low, high = points[place - 1], points[place]
    slope = (high.seconds - low.seconds) / (high.rows - low.rows)
    return max(0.0, low.seconds + slope * (rows - low.rows))
