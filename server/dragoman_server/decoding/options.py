"""How one request is decoded: resolved values, ids instead of strings, checked before by whoever made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences

_ValueT = TypeVar("_ValueT")


class _once(Generic[_ValueT]):  # noqa: N801  (a decorator)
    """A property that is computed when it is first asked for, and kept.

    ``functools.cached_property`` takes a lock for that before Python 3.12, which costs more than what is computed here.
    """

    def __init__(self, compute: Callable[[Any], _ValueT]) -> None:
        self._compute, self._name, self.__doc__ = compute, compute.__name__, compute.__doc__

    def __get__(self, instance: object, owner: type) -> _ValueT:
        # What stands in the object's own dictionary is found before this is asked again.
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn; the defaults draw from the model's distribution itself."""

    seed: int
    """0 to 2^64 - 1."""
    first: int = 0
    """Which of the seed's numbers the first token is drawn with: a text that goes on does so with the next."""
    temperature: float = 1.0
    top_k: int = 0
    """0: off."""
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0


@dataclass(frozen=True)
class DecodingOptions:
    """The defaults decode greedily, without any filter."""

    max_length: int
    """Most target tokens, end-of-sentence included; more than ``prefix`` has, unless it is ``forced``."""
    min_length: int = 0
    """Fewest target tokens before end-of-sentence; less than ``max_length``."""
    beam_size: int = 1
    num_hypotheses: int = 1
    length_penalty: LengthPenalty = LengthPenalty()  # noqa: RUF009  (frozen)
    patience: float = 1.0
    early_stopping: bool = False
    sampling: SamplingOptions | None = None
    """Excludes ``beam_size`` above 1 and ``alternatives``."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    """0: off."""
    banned: tuple[tuple[int, ...], ...] = ()
    """Sequences of ids that must not come; none is empty."""
    allowed: tuple[int, ...] | None = None
    """The only ids that may come, besides end-of-sentence."""
    prefix: tuple[int, ...] = ()
    """The ids that come first, whatever the model thinks of them."""
    forced: bool = False
    """Score ``prefix``, to whose end the end-of-sentence belongs where it counts: decoding ends with it."""
    coverage_penalty: float = 0.0
    """Weight, at least 0, of how much of the source the hypothesis has attended to; 0: off."""
    with_attention: bool = False
    """Keep the cross-attention of every target token."""
    alternatives: int = 0
    """0: off. Excludes ``beam_size`` and ``num_hypotheses`` above 1."""
    stop: StopSequences | None = None
    earlier: tuple[int, ...] = ()
    """What the text had come to before: it counts as produced for penalties, n-grams and banned sequences."""

    @_once
    def width(self) -> int:
        """The most hypotheses that live at one time, so the cache rows to reserve."""
        return max(self.beam_size, self.num_hypotheses, self.alternatives)

    @_once
    def candidates(self) -> int:
        """How many of a row's likeliest tokens a step looks at; 0: the whole vocabulary."""
        if self.sampling:
            return self.sampling.top_k
        return 2 * self.beam_size if self.beam_size > 1 else max(1, self.alternatives)

    def columns(self, top_k: int) -> int:
        """How many of a row's likeliest tokens, in order, a step looks at where the graph gives ``top_k``."""
        return self.candidates if not self.sampling or 1 <= self.sampling.top_k <= top_k else 1

    @_once
    def penalises(self) -> bool:
        """Whether logits are changed."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @_once
    def restricts(self) -> bool:
        """Whether any step may have tokens that must not come; end-of-sentence before ``min_length`` apart."""
        return bool(self.no_repeat_ngram_size or self.banned) or self.allowed is not None

    @_once
    def attends(self) -> bool:
        """Whether steps have to give the attention to the source."""
        return self.with_attention or self.coverage_penalty != 0

    @_once
    def plain(self) -> bool:
        """Whether this is greedy search and nothing else."""
        return not (
            self.width > 1
            or self.sampling
            or self.penalises
            or self.restricts
            or self.min_length
            or self.prefix
            or self.stop
        )
